"""Who may act: lease, epoch, broker session, and the roles of the two replicas. The composition root lies here."""
