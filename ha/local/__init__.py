"""The whole pair on one machine: embedded etcd and PostgreSQL, the stand-in gateway, two replicas."""
