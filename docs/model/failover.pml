/* The pair's fencing protocol: two replicas, a lease, an epoch in the database, one broker session.
 *
 * Read README.md first: it says for each name here which line of the code it stands for. `check.sh` runs it.
 *
 * Each option of each loop is one indivisible step: one statement in PostgreSQL, one transaction in etcd, or what the
 * event loop does between two awaits. A crash, a lost lease or a gateway restart falls between any two steps, and a
 * frozen replica is one that the scheduler leaves alone. At most FAULTS faults happen, of any kind and in any order;
 * after `quiet` nothing breaks any more, and the Judge looks at every state in which nothing is left to do.
 * Each -D name below ORDERS and FAULTS takes one rule away, or adds one fault. */
#ifndef ORDERS
#define ORDERS 1
#endif
#ifndef FAULTS
#define FAULTS 3
#endif
#ifndef CANCELS
#define CANCELS 0                    /* cancels (or expiries) that clients ask for */
#endif
#ifndef ROUNDS
#define ROUNDS 0                     /* reconciliations beside the one after each admission */
#endif

/* ---------------------------------------------------------------------------------------- what is judged */
bool G1_one_writer = 1, G2_one_sender = 1, G3_nothing_lost = 1, G4_nothing_twice = 1, G6_unknown_stays_unknown = 1,
     G7_rightful_leader_stays = 1, G9_time_goes_back_noticed = 1, C_cancelled_is_not_sent = 1;
inline check(guarantee, holds) { if :: holds -> skip :: else -> assert(!guarantee) fi }
#ifdef JUDGE_BROKER                  /* judge only what the broker got and what the end looks like */
inline rule(guarantee, holds) { skip }
#else
inline rule(guarantee, holds) { check(guarantee, holds) }
#endif

/* ---------------------------------------------------------------------------------------------- the parts */
mtype = { STANDBY, CAMPAIGNING, CLAIMING, CONNECTING, RECONCILING, LEADING, HOLDING, STEPPING_DOWN };  /* ha/role.py */
mtype = { NONE, QUEUED, SENDING, WORKING, ENDED, IN_DOUBT, CANCELLED };          /* engine/order.py */
mtype = { NOTHING, DRAFTED, DRAFT_OVER, LICENSED, LICENCE_OVER };                /* a licence in one process's memory */
mtype = { FRESH, OLD, OVERDUE };                                                 /* age of the last proof of epoch */

typedef Memory {                     /* what a replica's process knows; a crash wipes it */
  mtype phase;
  bool suspects;                     /* it campaigns against a silent leader, not for a free key */
  byte base;                         /* the epoch that it read before it campaigned (R31) */
  byte epoch;                        /* of its term; 0 = it has none */
  mtype proof;                       /* OVERDUE: old, and another one has claimed since */
  unsigned proved : 2;               /* R13: 1 = proven and lease verified for one dial, 2 = for one use of the agent */
  mtype licence[ORDERS];             /* OVER: it names a session, or a moment, that is gone */
  bool wrote[ORDERS];                /* written on the session it has now, not acknowledged */
  bool collected, complete, seen[ORDERS];        /* its snapshot of the broker on this session */
#if CANCELS
  bool cancelling[ORDERS];           /* a cancel's licence is committed, its bytes are not written */
#endif
#ifdef NO_LOCK
  bool open[ORDERS];                 /* a transaction past the trigger and before its commit */
#endif
#ifdef ROLLBACK
  byte knows;                        /* the highest epoch that it has ever seen */
  bool moved;                        /* it has read the database since that went back */
  bool sawMore;                      /* it has seen events that the lagging copy has not */
  bool mustHold;
#endif
};
Memory r[3];                         /* replicas 1 and 2 */

byte lease;                          /* etcd: who has the leader key, 0 = nobody */
byte epoch;                          /* PostgreSQL: ledger.epoch */
mtype ledger[ORDERS] = NONE;         /* PostgreSQL: the log, folded */
#if CANCELS
byte wanted[ORDERS];          /* PostgreSQL: a cancel is asked for (1), licensed for a session (2) */
bool over[ORDERS];                   /* IB: the order was cancelled or filled */
bool told[ORDERS];                   /* the client: it was told "cancelled before it was sent"; only the judge knows it */
byte cancels;
#endif
#ifdef ROLLBACK
mtype = { FOLLOWS, LAGS, PROMOTED };
mtype copy = FOLLOWS;                /* a copy of the database (an asynchronous replica, a backup) */
byte oldEpoch; mtype oldLedger[ORDERS];          /* where it stands while it lags */
bool newer;                          /* events were committed that it has not */
bool looked;                         /* an operator has looked since it became the database */
byte memEpoch; bool memMore;         /* etcd's memory: an epoch; events that the copy has not */
byte top;                            /* the highest epoch that was ever claimed; only the judge knows it */
#if CANCELS
byte oldWanted[ORDERS];
#endif
#else
#define top epoch
#endif
byte session[2]; bool eof[2];        /* the gateway, per clientId: whose session it is; its end is on the way */
chan socket[2] = [2 * ORDERS] of { byte };       /* written on that session, not yet read by the gateway */
bool inside[ORDERS];                 /* read by the gateway, in no snapshot yet (R1) */
byte broker[ORDERS];                 /* orders at IB under this reference */
byte faults, rounds;
byte i;

/* ------------------------------------------------------------------------------------- rules, and without them */
#define is(p)      (r[me].phase == p)
#define hasEpoch   (is(CONNECTING) || is(RECONCILING) || is(LEADING) || is(HOLDING))
#define onSession  (is(RECONCILING) || is(LEADING) || is(HOLDING))
#define fault      (faults < FAULTS)
#ifdef NEW_CLIENT_ID                 /* R14 broken: each replica its own clientId, so that being admitted proves nothing */
#define cid (me - 1)
#else
#define cid 0
#endif
#define connected  (session[cid] == me && !eof[cid])
#define alone      (session[1 - cid] == 0 && len(socket[1 - cid]) == 0)

#ifdef NO_EPOCH                      /* no trigger */
#define fenced     false
#else
#define fenced     (r[me].epoch != epoch)        /* PA001 */
#endif
#ifdef ROLLBACK
#define goneBack   (copy == PROMOTED && !r[me].moved)              /* another timeline than the one of this term */
#define hole       (goneBack && r[me].sawMore)                     /* PA003, PA005: its book is ahead of the log */
#else
#define goneBack   false
#define hole       false
#endif
#ifdef APPEND_BLIND                  /* the timeline is looked at by the proof only, not by a commit on a new connection */
#define refused    (fenced || hole)
#else
#define refused    (fenced || goneBack)
#endif
#define proofFails (fenced || goneBack)

#ifdef NO_PROOF_AGE                  /* R12 broken: the permit does not ask how old the proof is */
#define proven     true
#else
#define proven     (r[me].proof == FRESH)
#endif
#ifdef NO_PROOF                      /* R13 broken: no commit before an attempt to connect */
#define mayDial    true
#else
#define mayDial    (!proofFails)
#endif
#ifdef NO_VERIFY                     /* R13 broken: a session is opened under a lease that nobody verified */
#define leaseHeld  true
#else
#define leaseHeld  (lease == me)
#endif

#ifdef JUDGE_LIVE                    /* R3 broken: a snapshot judges also what its own session has just written */
#define inDoubt(o) (ledger[o] == SENDING && r[me].licence[o] == NOTHING)
#elif defined(KEEP_LICENCE)
#define inDoubt(o) (ledger[o] == SENDING && !r[me].wrote[o])
#else
#define inDoubt(o) (ledger[o] == SENDING && r[me].licence[o] == NOTHING && !r[me].wrote[o])
#endif
#ifdef PARTIAL_IS_ABSENT             /* G6 broken: a part that did not come counts as empty */
#define absent(o)  (!r[me].seen[o])
#define whole      true
#else
#define absent(o)  (!r[me].seen[o] && r[me].complete)
#define whole      r[me].complete
#endif
#ifdef NOT_ADOPTED                   /* R19 broken: our own reference without a row is left alone */
#define adoptable(o) (r[me].seen[o] && (ledger[o] == QUEUED || ledger[o] == IN_DOUBT || ledger[o] == CANCELLED))
#else
#define adoptable(o) (r[me].seen[o] && (ledger[o] == NONE || ledger[o] == QUEUED || ledger[o] == IN_DOUBT || ledger[o] == CANCELLED))
#endif
#if CANCELS && !defined(FORGETFUL_CLIENT)
#define placed(o)  (ledger[o] == NONE && !told[o])               /* a client does not place what it was told is cancelled */
#else
#define placed(o)  (ledger[o] == NONE)
#endif
#define doubtful(o)  (inDoubt(o) || adoptable(o))
#if ORDERS == 1
#define anyDoubt   doubtful(0)
#else
#define anyDoubt   (doubtful(0) || doubtful(1))
#endif
#ifdef ROLLBACK
#ifdef INCOMPLETE_AFTER              /* after the database went back, the gate opens on an incomplete snapshot too */
#define enough     true
#else
#define enough     (copy != PROMOTED || whole)
#endif
#define toHold     r[me].mustHold
#define licensed(o) (ledger[o] == SENDING || copy == PROMOTED)
#else
#define enough     true
#define toHold     false
#define licensed(o) (ledger[o] == SENDING)
#endif
#if CANCELS && !defined(QUEUE_FORGETS_CANCEL)
#define dropped(o) (wanted[o] > 0)               /* a cancel is asked for: it is not sent any more */
#else
#define dropped(o) false
#endif
#ifdef ACCEPT_BEFORE_HOLD            /* orders are accepted between the claim and the hold */
#define mayAccept  true
#else
#define mayAccept  (!toHold)
#endif
#ifdef END_BEFORE_HOLD               /* QUEUED is believed, and ended by a cancel, before the broker was looked at */
#define mayEnd     true
#else
#define mayEnd     (!toHold)
#endif
#ifdef EARLY_SNAPSHOT                /* G6 broken: collected before the gateway admitted us */
#define mayLeave   r[me].collected
#else
#define mayLeave   true
#endif
#ifdef HASTY_OPERATOR                /* resolves the hold without looking */
#define allSeen    true
#elif ORDERS > 1
#define allSeen    (!inside[0] && !inside[1])
#else
#define allSeen    (!inside[0])
#endif

/* ------------------------------------------------------------------------------------------- small actions */
inline dropSnapshot() {
  for (i : 0 .. ORDERS - 1) { r[me].seen[i] = 0 }
  r[me].collected = 0; r[me].complete = 0
}
inline sessionOver() {               /* node.session_lost: licences die with their session (R2) */
  for (i : 0 .. ORDERS - 1) {
    r[me].wrote[i] = 0;
#if CANCELS
    r[me].cancelling[i] = 0;
#endif
#ifndef KEEP_LICENCE
    if :: r[me].licence[i] == DRAFTED -> r[me].licence[i] = DRAFT_OVER
       :: r[me].licence[i] == LICENSED -> r[me].licence[i] = LICENCE_OVER
       :: else fi
#endif
  }
  dropSnapshot(); r[me].proved = 0
}
inline forgetTerm() {
  sessionOver();
  for (i : 0 .. ORDERS - 1) { r[me].licence[i] = NOTHING }
#ifdef ROLLBACK
  r[me].mustHold = 0;
#endif
  r[me].epoch = 0; r[me].base = 0; r[me].suspects = 0; r[me].proof = FRESH
}
inline hangUp() { if :: session[cid] == me -> eof[cid] = 1 :: else fi }  /* what was written may still be read */
inline endTerm() { r[me].phase = STEPPING_DOWN }                         /* the gate is shut; then session, then lease */
inline committed() {                 /* bookkeeping of a commit that was not refused */
  rule(G1_one_writer, r[me].epoch == top);
  r[me].proof = FRESH;
#ifdef ROLLBACK
  if :: copy == LAGS -> newer = 1; r[me].sawMore = 1 :: else fi
#endif
}
inline commit(o, word) { if :: refused -> endTerm() :: else -> ledger[o] = word; committed() fi }
inline bytes(o) {                    /* onto the wire; a dead socket swallows them silently */
  if :: connected ->
        rule(G2_one_sender, r[me].proof != OVERDUE && alone);
        rule(G4_nothing_twice, licensed(o));             /* what was licensed once is never sent again by itself */
#if CANCELS
        rule(C_cancelled_is_not_sent, !told[o]);
#endif
        socket[cid]!o
     :: else fi
}
inline arrive(o) { broker[o]++; check(G4_nothing_twice, broker[o] <= 1) }
inline collect(worth) {              /* reconcile.collect */
  for (i : 0 .. ORDERS - 1) { r[me].seen[i] = (worth && broker[i] > 0) }
  r[me].collected = 1; r[me].complete = worth
}
#ifdef ROLLBACK
inline catchUp() {                   /* tail.catch_up: to the head, and what was seen stays known */
  if :: r[me].knows < epoch -> r[me].knows = epoch :: else fi;
  if :: copy == LAGS && newer -> r[me].sawMore = 1 :: else fi;
  r[me].moved = (copy == PROMOTED)
}
#else
inline catchUp() { skip }
#endif

/* ------------------------------------------------------------------------------------------------ a replica */
proctype Replica(byte me) {          /* its term: ha/role.py row by row */
  byte next;
end: do
  /* STANDBY -LEADERLESS-> CAMPAIGNING: the epoch is read first (R31) */
  :: d_step { is(STANDBY) && lease == 0 -> catchUp(); r[me].base = epoch; r[me].phase = CAMPAIGNING }
  /* STANDBY -SUSPECTED-> CAMPAIGNING: the leader lives, and was silent on both ways (R30) */
  :: d_step { is(STANDBY) && lease == 3 - me && fault -> faults++; catchUp(); r[me].base = epoch; r[me].suspects = 1; r[me].phase = CAMPAIGNING }
  /* CAMPAIGNING -WON-> CLAIMING: the key was free, or still the silent leader's; -LOST-> STANDBY */
  :: d_step { is(CAMPAIGNING) && lease == (r[me].suspects -> 3 - me : 0) -> lease = me; r[me].suspects = 0; r[me].phase = CLAIMING }
  :: d_step { is(CAMPAIGNING) && lease != (r[me].suspects -> 3 - me : 0) -> r[me].base = 0; r[me].suspects = 0; r[me].phase = STANDBY }
  /* CLAIMING -CLAIMED-> CONNECTING, or -ENDED-> */
  :: d_step { is(CLAIMING) ->
#ifdef ROLLBACK
       catchUp();
#endif
#ifdef NO_CAS                        /* R31 broken: whatever the epoch was before */
       if :: false
#else
       if :: r[me].base != epoch -> endTerm()                              /* PA002 */
#endif
          :: else ->
            rule(G7_rightful_leader_stays, !(lease == 3 - me && r[3 - me].epoch == epoch && epoch > 0));
            next = epoch;
#ifdef ROLLBACK
            if :: next < r[me].knows -> next = r[me].knows :: else fi;
#ifndef NO_MEMORY
            if :: next < memEpoch -> next = memEpoch :: else fi;
#endif
#endif
            next++;
            rule(G1_one_writer, next > top);
            epoch = next; r[me].epoch = next; r[me].base = 0;
#ifdef ROLLBACK
            top = next; r[me].knows = next;
#ifndef REMEMBER_LATER
            memEpoch = next;         /* kept in etcd before anything is done under it */
#endif
#ifdef HOLD_BY_SEQ                   /* only when this replica or etcd has seen an event that is not there any more */
            r[me].mustHold = (copy == PROMOTED && (r[me].sawMore || memMore));
#elif defined(NO_HOLD)
            r[me].mustHold = 0;
#else                                /* on every change of place, until an operator has looked */
            r[me].mustHold = (copy == PROMOTED && !looked);
#endif
#endif
            next = 0; r[me].phase = CONNECTING
       fi; next = 0 }
#ifdef ROLLBACK
#ifdef REMEMBER_LATER                /* tend._remember: once a second, under the leader key */
  :: d_step { hasEpoch && lease == me && !toHold && (memEpoch != r[me].epoch || memMore != (copy == LAGS && r[me].sawMore)) ->
       memEpoch = r[me].epoch; memMore = (copy == LAGS && r[me].sawMore) }
#endif
  :: d_step { is(STANDBY) && copy == LAGS && newer && !r[me].sawMore -> catchUp() }    /* it tails */
#endif
  /* CONNECTING: prove the epoch, verify the lease, dial (R13) */
  :: d_step { is(CONNECTING) && r[me].proved == 0 && mayDial && leaseHeld && mayLeave -> r[me].proved = 1; r[me].proof = FRESH }
  /* CONNECTING -ADMITTED-> RECONCILING: the clientId was free, so every earlier session is dead */
  :: d_step { is(CONNECTING) && r[me].proved == 1 && session[cid] == 0 ->
       session[cid] = me; r[me].proved = 0; r[me].phase = RECONCILING }
  /* 326: prove again, then the agent drops whatever session it finds */
  :: d_step { is(CONNECTING) && r[me].proved == 1 && session[cid] != 0 && !eof[cid] ->
       if :: mayDial -> r[me].proved = 2 :: else -> endTerm() fi }
  :: d_step { is(CONNECTING) && r[me].proved == 2 -> r[me].proved = 0;
       if :: session[cid] != 0 -> eof[cid] = 1 :: else fi }
  /* RECONCILING: SESSION_OPENED is committed, then the broker is asked */
#ifdef EARLY_SNAPSHOT                /* collected before the gateway admitted us */
  :: d_step { is(CONNECTING) && !r[me].collected -> collect(1) }
  :: d_step { is(CONNECTING) && !r[me].collected && fault -> faults++; collect(0) }
#endif
  :: d_step { is(RECONCILING) && !r[me].collected && connected -> if :: refused -> endTerm() :: else -> collect(1) fi }
  :: d_step { is(RECONCILING) && !r[me].collected && connected && fault -> faults++;
       if :: refused -> endTerm() :: else -> collect(0) fi }
  :: d_step { is(RECONCILING) && r[me].collected && !r[me].complete -> dropSnapshot() }          /* once more */
  /* RECONCILING -AGREED-> LEADING, or -MUST_HOLD-> HOLDING */
  :: d_step { is(RECONCILING) && r[me].collected && !anyDoubt && enough ->
       if :: refused -> endTerm()
          :: else -> dropSnapshot(); r[me].proof = FRESH;
             if :: toHold -> r[me].phase = HOLDING
                :: else ->
#ifdef ROLLBACK
                   rule(G9_time_goes_back_noticed, !(copy == PROMOTED && newer) || looked);
#endif
                   r[me].phase = LEADING
             fi
       fi }
#ifdef ROLLBACK
  /* HOLDING -RELEASED_HOLD-> CONNECTING: an operator has looked at the broker, nothing of ours is on its way there */
  :: d_step { is(HOLDING) && allSeen ->
#ifndef QUICK_OPERATOR               /* what waited has expired meanwhile (max_intent_age) */
       for (i : 0 .. ORDERS - 1) { if :: ledger[i] == QUEUED && !refused -> ledger[i] = CANCELLED :: else fi }
#endif
       sessionOver(); hangUp(); looked = 1; r[me].mustHold = 0; r[me].sawMore = 0; r[me].phase = CONNECTING }
#endif
#if ROUNDS
  /* LEADING: a reconciliation of the live session */
  :: d_step { is(LEADING) && !r[me].collected && rounds < ROUNDS && connected -> rounds++; collect(1) }
  :: d_step { is(LEADING) && !r[me].collected && rounds < ROUNDS && connected && fault -> faults++; rounds++; collect(0) }
  :: d_step { is(LEADING) && r[me].collected && !anyDoubt -> dropSnapshot() }
#endif
  /* -SESSION_LOST-> CONNECTING */
  :: d_step { (is(RECONCILING) || is(LEADING)) && !connected -> sessionOver(); r[me].phase = CONNECTING }
  :: d_step { (is(RECONCILING) || is(LEADING)) && connected && fault -> faults++; sessionOver(); r[me].phase = CONNECTING }   /* half-open */
  /* -ENDED-> STEPPING_DOWN: told that the lease is gone, or that the epoch is; now or late */
  :: d_step { (is(CLAIMING) || hasEpoch) && lease != me -> endTerm() }
  :: d_step { hasEpoch && proofFails -> endTerm() }
  /* STEPPING_DOWN: the session is aborted, then the lease is given back; -QUIET-> STANDBY */
  :: d_step { is(STEPPING_DOWN) && r[me].epoch > 0 -> hangUp(); forgetTerm() }
  :: d_step { is(STEPPING_DOWN) && r[me].epoch == 0 -> r[me].base = 0; r[me].phase = STANDBY; if :: lease == me -> lease = 0 :: else fi }
  /* the proof of epoch every 250 ms */
  :: d_step { hasEpoch && r[me].proof == OLD && !proofFails -> r[me].proof = FRESH }
  /* it dies and starts again, empty: the kernel closes its socket, or the host is gone with it (half-open) */
  :: d_step { !is(STANDBY) && fault -> faults++; hangUp(); forgetTerm(); r[me].phase = STANDBY;
#ifdef ROLLBACK
       r[me].knows = 0; r[me].sawMore = 0; r[me].moved = (copy == PROMOTED)
#endif
     }
  :: d_step { !is(STANDBY) && fault -> faults++; forgetTerm(); r[me].phase = STANDBY;
#ifdef ROLLBACK
       r[me].knows = 0; r[me].sawMore = 0; r[me].moved = (copy == PROMOTED)
#endif
     }
#ifdef ROLLBACK
  :: d_step { is(STANDBY) && (r[me].sawMore || r[me].knows > 0) && fault -> faults++;
       r[me].knows = 0; r[me].sawMore = 0; r[me].moved = (copy == PROMOTED) }
#endif
  od
}

proctype Desk(byte me; byte o) {     /* one order at one replica: engine/submit.py, engine/inbound.py, reconcile/ */
end: do
  /* accept, gate open: the draft carries the licence; one commit, then the answer */
#ifdef SEND_FIRST                    /* written, then committed */
  :: d_step { is(LEADING) && proven && ledger[o] == NONE && r[me].licence[o] == NOTHING && !r[me].wrote[o] -> r[me].licence[o] = LICENSED }
  :: d_step { is(LEADING) && ledger[o] == NONE && r[me].wrote[o] -> commit(o, SENDING) }
#else
  :: d_step { is(LEADING) && proven && placed(o) && r[me].licence[o] == NOTHING -> r[me].licence[o] = DRAFTED }
#endif
  /* accept, gate shut: QUEUED */
  :: d_step { hasEpoch && !is(HOLDING) && proven && placed(o) && r[me].licence[o] == NOTHING && mayAccept -> commit(o, QUEUED) }
  /* the gate opens: a second commit is the licence */
  :: d_step { is(LEADING) && proven && ledger[o] == QUEUED && r[me].licence[o] == NOTHING && !dropped(o) -> r[me].licence[o] = DRAFTED }
  /* the licence's commit (R2); the book takes it only for an order that waits */
#ifdef NO_LOCK                       /* R10 broken: the trigger compares epochs and holds nothing until the commit */
  :: d_step { hasEpoch && (r[me].licence[o] == DRAFTED || r[me].licence[o] == DRAFT_OVER) && !refused && !r[me].open[o] -> r[me].open[o] = 1 }
  :: d_step { hasEpoch && (r[me].licence[o] == DRAFTED || r[me].licence[o] == DRAFT_OVER) && r[me].open[o] -> r[me].open[o] = 0;
       if :: ledger[o] == NONE || ledger[o] == QUEUED -> ledger[o] = SENDING; committed();
             if :: r[me].licence[o] == DRAFTED -> r[me].licence[o] = LICENSED :: else -> r[me].licence[o] = LICENCE_OVER fi
          :: else -> r[me].licence[o] = NOTHING
       fi }
#else
  :: d_step { hasEpoch && (r[me].licence[o] == DRAFTED || r[me].licence[o] == DRAFT_OVER) ->
       if :: ledger[o] == NONE || ledger[o] == QUEUED ->
#if CANCELS
             rule(C_cancelled_is_not_sent, wanted[o] == 0 || refused);
#endif
             commit(o, SENDING);
             if :: r[me].licence[o] == DRAFTED -> r[me].licence[o] = LICENSED
                :: r[me].licence[o] == DRAFT_OVER -> r[me].licence[o] = LICENCE_OVER
                :: else fi
          :: else -> r[me].licence[o] = NOTHING
       fi }
#endif
  /* the commit's answer: permit check and write on adjacent lines */
  :: d_step { is(LEADING) && r[me].licence[o] == LICENSED && proven ->
       r[me].licence[o] = NOTHING; r[me].wrote[o] = 1; bytes(o) }
  :: d_step { hasEpoch && r[me].licence[o] == LICENSED && !proven -> r[me].licence[o] = LICENCE_OVER }     /* refused */
  /* this process knows that it wrote nothing: the licence is taken back (R4) */
  :: d_step { hasEpoch && r[me].licence[o] == LICENCE_OVER -> r[me].licence[o] = NOTHING;
       if :: ledger[o] == SENDING -> commit(o, QUEUED) :: else fi }
#ifdef TAKE_BACK_BLIND               /* R4 broken: taken back without knowing */
  :: d_step { (is(RECONCILING) || is(LEADING)) && ledger[o] == SENDING && r[me].wrote[o] -> r[me].wrote[o] = 0; commit(o, QUEUED) }
#endif
  /* the broker shows it, on the live stream: openOrder, orderStatus */
  :: d_step { onSession && connected && broker[o] > 0 && (ledger[o] == SENDING || ledger[o] == QUEUED || ledger[o] == IN_DOUBT) ->
       commit(o, WORKING); r[me].wrote[o] = 0 }
  /* not acknowledged for too long: our own session is aborted, and judged as a dead one's (R5) */
#ifndef NO_ACK_DEADLINE
  :: d_step { is(LEADING) && connected && r[me].wrote[o] && ledger[o] == SENDING -> hangUp(); sessionOver(); r[me].phase = CONNECTING }
#endif
  /* the table of reconcile/plan.py */
#define judging (is(RECONCILING) || is(LEADING)) && r[me].collected
  :: d_step { judging && inDoubt(o) && r[me].seen[o] -> commit(o, WORKING) }                      /* sending_present */
  :: d_step { judging && adoptable(o) -> commit(o, WORKING) }  /* restored, queued_yet_present, reopened, surfaced */
#ifdef RESEND                        /* R1 broken: absent, so it is sent again */
  :: d_step { judging && inDoubt(o) && absent(o) -> commit(o, QUEUED) }
#else
  :: d_step { judging && inDoubt(o) && absent(o) ->                                               /* sending_absent */
#ifdef PROMPT                        /* what a lazy gateway keeps inside, no snapshot can show */
       rule(G6_unknown_stays_unknown, broker[o] == 0 && !(socket[0]??[eval(o)]) && !(socket[1]??[eval(o)]));
#endif
       commit(o, IN_DOUBT) }
#endif
  :: d_step { judging && inDoubt(o) && !r[me].seen[o] && !r[me].complete -> commit(o, IN_DOUBT) } /* sending_unproven */
#if CANCELS
  /* a cancel is asked for; expiry is the same for an order that waits (R8) */
  :: d_step { hasEpoch && proven && cancels < CANCELS && ledger[o] == QUEUED && r[me].licence[o] == NOTHING && mayEnd -> cancels++;
       if :: refused -> skip :: else -> told[o] = 1 fi; commit(o, CANCELLED) }
  :: d_step { hasEpoch && proven && cancels < CANCELS && wanted[o] == 0 && (ledger[o] == SENDING || ledger[o] == IN_DOUBT) -> cancels++;
       if :: refused -> endTerm() :: else -> wanted[o] = 1; committed() fi }
  :: d_step { (is(LEADING) || is(HOLDING)) && proven && cancels < CANCELS && wanted[o] == 0 && ledger[o] == WORKING -> cancels++;
       if :: refused -> endTerm() :: else -> wanted[o] = 2; r[me].cancelling[o] = 1; committed() fi }
#ifndef QUEUE_FORGETS_CANCEL         /* its licence was taken back: it ends here */
  :: d_step { hasEpoch && proven && ledger[o] == QUEUED && wanted[o] == 1 && r[me].licence[o] == NOTHING && mayEnd ->
       if :: refused -> skip :: else -> told[o] = 1 fi; commit(o, CANCELLED) }
#endif
  /* a cancel that was asked for before the order was live on this session */
  :: d_step { (is(LEADING) || is(HOLDING)) && wanted[o] == 1 && ledger[o] == WORKING ->
       if :: refused -> endTerm() :: else -> wanted[o] = 2; r[me].cancelling[o] = 1; committed() fi }
  :: d_step { onSession && r[me].cancelling[o] -> r[me].cancelling[o] = 0; if :: connected -> socket[cid]!(o + ORDERS) :: else fi }
  :: d_step { onSession && connected && over[o] && ledger[o] == WORKING -> commit(o, ENDED) }
#endif
  od
}

proctype Gateway(byte c) {
  byte o;
end: do
  :: d_step { nempty(socket[c]) -> socket[c]?o;
       if :: o < ORDERS -> arrive(o)
#if CANCELS
          :: else -> o = o - ORDERS; if :: broker[o] > 0 -> over[o] = 1 :: else fi       /* 10147 for an unknown one */
#endif
       fi; o = 0 }
  :: d_step { eof[c] && len(socket[c]) > 0 -> socket[c]?o; o = 0 }                      /* a reset: unread bytes are gone */
  :: d_step { eof[c] && len(socket[c]) == 0 -> eof[c] = 0; session[c] = 0 }               /* only now is the clientId free */
#ifndef PROMPT                       /* it keeps an order inside, unseen: a contract lookup, the link to IB silently down */
  :: d_step { socket[c]?[0] -> socket[c]?o; inside[0] = 1; o = 0 }
#if ORDERS > 1
  :: d_step { socket[c]?[1] -> socket[c]?o; inside[1] = 1; o = 0 }
#endif
  :: d_step { c == 0 && inside[0] -> inside[0] = 0; arrive(0) }
  :: d_step { c == 0 && inside[0] -> inside[0] = 0 }                                   /* read, and never taken */
#if ORDERS > 1
  :: d_step { c == 0 && inside[1] -> inside[1] = 0; arrive(1) }
  :: d_step { c == 0 && inside[1] -> inside[1] = 0 }
#endif
#endif
#if CANCELS
  :: d_step { c == 0 && broker[0] > 0 && !over[0] && cancels > 0 -> over[0] = 1 }      /* it fills */
#endif
  :: d_step { c == 0 && fault && (session[0] != 0 || session[1] != 0) -> faults++;     /* it restarts, or drops its sessions */
       session[0] = 0; session[1] = 0; eof[0] = 0; eof[1] = 0;
       do :: len(socket[0]) > 0 -> socket[0]?o :: len(socket[1]) > 0 -> socket[1]?o
          :: len(socket[0]) + len(socket[1]) == 0 -> break od; o = 0 }
  od
}

#define dead(x) (r[x].phase == STANDBY || r[x].phase == CAMPAIGNING)
proctype World() {
end: do
  :: d_step { lease != 0 && dead(lease) -> lease = 0 }       /* nobody renews it, or the supervisor released it */
  :: d_step { lease != 0 && !dead(lease) && fault -> faults++; lease = 0 }             /* expired or revoked under a live holder */
  /* a second passes: after another one's claim, or in a replica that stands still, or while the database is away */
  :: d_step { r[1].epoch != 0 && r[1].epoch != top && r[1].proof == FRESH -> r[1].proof = OVERDUE }
  :: d_step { r[2].epoch != 0 && r[2].epoch != top && r[2].proof == FRESH -> r[2].proof = OVERDUE }
  :: d_step { r[1].epoch != 0 && r[1].epoch == top && r[1].proof == FRESH && fault -> faults++; r[1].proof = OLD }
  :: d_step { r[2].epoch != 0 && r[2].epoch == top && r[2].proof == FRESH && fault -> faults++; r[2].proof = OLD }
#ifdef ROLLBACK
  :: d_step { copy == FOLLOWS && fault ->                    /* the copy falls behind */
       for (i : 0 .. ORDERS - 1) { oldLedger[i] = ledger[i];
#if CANCELS
         oldWanted[i] = wanted[i]
#endif
       }
       faults++; copy = LAGS; oldEpoch = epoch }
  :: d_step { copy == LAGS ->                                /* and becomes the database */
       for (i : 0 .. ORDERS - 1) { ledger[i] = oldLedger[i]; oldLedger[i] = 0;
#if CANCELS
         wanted[i] = oldWanted[i]; oldWanted[i] = 0
#endif
       }
       copy = PROMOTED; epoch = oldEpoch; oldEpoch = 0 }
#endif
  :: d_step { fault -> faults = FAULTS }                     /* quiet: nothing breaks any more */
  od
}

#define leads(x)   (r[x].phase == LEADING && r[x].epoch == epoch && lease == x)
#define settled(o) (!placed(o) && ((ledger[o] == NONE && broker[o] == 0) || (ledger[o] == IN_DOUBT && broker[o] == 0) || (ledger[o] == CANCELLED && broker[o] == 0) || \
                    ((ledger[o] == WORKING || ledger[o] == ENDED) && broker[o] == 1)))
proctype Judge() {                   /* nothing can move any more */
  timeout -> d_step {
    check(G3_nothing_lost, settled(0));
#if ORDERS > 1
    check(G3_nothing_lost, settled(1));
#endif
    check(G3_nothing_lost, leads(1) || leads(2)) }           /* and the pair is not stuck */
}

init {
  atomic {
    for (i : 1 .. 2) { r[i].phase = STANDBY; r[i].proof = FRESH; r[i].licence[0] = NOTHING;
#if ORDERS > 1
      r[i].licence[1] = NOTHING
#endif
    }
    run Replica(1); run Replica(2); run Desk(1, 0); run Desk(2, 0);
#if ORDERS > 1
    run Desk(1, 1); run Desk(2, 1);
#endif
    run Gateway(0);
#ifdef NEW_CLIENT_ID
    run Gateway(1);
#endif
    run World(); run Judge()
  }
}
