/* The pair's fencing protocol: two replicas, a lease, an epoch in the database, one broker session.
 *
 * README.md says for each name here which line of the code it stands for; check.sh runs it.
 *
 * Each option of each loop is one indivisible step: one statement in PostgreSQL, one transaction in etcd, or what the
 * event loop does between two awaits. A crash, a lost lease or a gateway restart falls between any two steps, and a
 * frozen replica is one that the scheduler leaves alone. At most FAULTS faults happen, of any kind and in any order;
 * at any moment they may be over ("nothing breaks any more"), and the Judge looks at every state in which nothing is left to do.
 * -D names other than the four here take one rule away, or add one fault. */
#ifndef ORDERS
#define ORDERS 1
#endif
#ifndef FAULTS
#define FAULTS 3
#endif
#ifndef CANCELS
#define CANCELS 0                    /* cancels that clients ask for */
#endif
#ifndef ROUNDS
#define ROUNDS 0                     /* reconciliations beside the one after each admission */
#endif
#if ORDERS == 1
#define each(act)  act(0)
#define any(is)    is(0)
#else
#define each(act)  act(0); act(1)
#define any(is)    (is(0) || is(1))
#endif

/* ------------------------------------------------------------------------------------------ what is judged */
bool G1_one_writer = 1, G2_one_sender = 1, G3_nothing_lost = 1, G4_nothing_twice = 1, G6_unknown_stays_unknown = 1,
     G7_rightful_leader_stays = 1, G9_time_goes_back_noticed = 1, C_cancelled_is_not_sent = 1;
inline check(guarantee, holds) { if :: holds -> skip :: else -> assert(!guarantee) fi }
#ifdef JUDGE_BROKER                  /* judge only what the broker got, and how a run ends */
inline rule(guarantee, holds) { skip }
#else
inline rule(guarantee, holds) { check(guarantee, holds) }
#endif

/* ----------------------------------------------------------------------------------------------- the parts */
mtype = { STANDBY, CAMPAIGNING, CLAIMING, CONNECTING, RECONCILING, LEADING, HOLDING, STEPPING_DOWN };  /* ha/role.py */
mtype = { NONE, QUEUED, SENDING, WORKING, ENDED, IN_DOUBT, CANCELLED };            /* engine/order.py */
mtype = { NOTHING, DRAFTED, DRAFT_OVER, LICENSED, LICENCE_OVER };                  /* a licence in a process's memory */
mtype = { FRESH, OLD, OVERDUE };     /* its last proof of epoch; OVERDUE: old, and a second has passed since another's claim */

typedef Memory {                     /* what a replica's process knows; a crash wipes it */
  mtype phase;
  bool suspects;                     /* it campaigns against a silent leader, not for a free key (R30) */
  byte base;                         /* the epoch that it read before it campaigned (R31) */
  byte epoch;                        /* of its term, 0 = none */
  mtype proof;
  byte proved;                       /* R13: proven and lease verified for one dial (1), for one use of the agent (2) */
  mtype licence[ORDERS];             /* .._OVER: the session that it names is over, or the permit refused it */
  bool wrote[ORDERS];                /* written on the session that it has now, no evidence yet */
  bool collected, complete, seen[ORDERS];          /* its snapshot of the broker on this session */
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
  bool mustHold;                     /* decided at the claim (R18) */
#endif
};
Memory r[3];                         /* replicas 1 and 2 */

byte lease;                          /* etcd: who has the leader key, 0 = nobody */
byte epoch;                          /* PostgreSQL: ledger.epoch */
mtype ledger[ORDERS] = NONE;         /* PostgreSQL: the log, folded */
#if CANCELS
byte wanted[ORDERS];                 /* PostgreSQL: a cancel is asked for (1), licensed for a session (2) */
bool over[ORDERS];                   /* IB: the order was cancelled or filled */
bool told[ORDERS];                   /* the client was told "cancelled before it was sent"; only the judge knows it */
byte cancels;
#endif
#ifdef ROLLBACK
mtype = { FOLLOWS, LAGS, PROMOTED };
mtype copy = FOLLOWS;                /* a copy of the database: an asynchronous replica, a backup */
byte oldEpoch; mtype oldLedger[ORDERS];            /* where it stands while it lags */
bool newer;                          /* events were committed that it has not */
bool held;                           /* PostgreSQL: the break that holds everything is open */
bool looked;                         /* an operator has looked since the copy became the database */
byte memEpoch; bool memMore;         /* etcd's memory: an epoch; events that the copy has not */
byte top;                            /* the highest epoch that was ever claimed; only the judge knows it */
#if CANCELS
byte oldWanted[ORDERS];
#endif
#ifdef HOLD_DIES
bool regrown;                        /* events were committed since the copy became the database */
#endif
#else
#define top epoch
#endif
byte session[2]; bool eof[2];        /* the gateway, per clientId: whose session it is; its end is on the way */
chan socket[2] = [2 * ORDERS] of { byte };         /* written on that session, not yet read by the gateway */
bool inside[ORDERS];                 /* read by the gateway, in no snapshot yet (R1) */
byte broker[ORDERS];                 /* orders at IB under this reference */
byte faults, rounds;

/* ---------------------------------------------------------------------------------- rules, and without them */
#define is(p)      (r[me].phase == p)
#define hasEpoch   (is(CONNECTING) || is(RECONCILING) || is(LEADING) || is(HOLDING))
#define onSession  (is(RECONCILING) || is(LEADING) || is(HOLDING))
#define fault      (faults < FAULTS)
#ifdef NEW_CLIENT_ID                 /* G2 broken: each replica its own clientId, so that admission proves nothing */
#define cid        (me - 1)
#else
#define cid        0
#endif
#define connected  (session[cid] == me && !eof[cid])
#define alone      (session[1 - cid] == 0 && len(socket[1 - cid]) == 0)

#ifdef NO_EPOCH                      /* R10 broken: no trigger */
#define fenced     false
#else
#define fenced     (r[me].epoch != epoch)                  /* PA001 */
#endif
#ifdef ROLLBACK
#define goneBack   (copy == PROMOTED && !r[me].moved)      /* another timeline than this process has read */
#define hole       (goneBack && r[me].sawMore)             /* PA003, PA005: its book is ahead of the log */
#else
#define goneBack   false
#define hole       false
#endif
#define proofFails (fenced || goneBack)
#ifdef APPEND_BLIND                  /* R18: only the proof compares the timeline, a commit on a new connection does not */
#define refused    (fenced || hole)
#else
#define refused    (fenced || goneBack)
#endif
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
#ifdef EARLY_SNAPSHOT                /* G6 broken: collected before the gateway admitted us */
#define mayLeave   r[me].collected
#else
#define mayLeave   true
#endif

#ifdef JUDGE_LIVE                    /* R3 broken: a snapshot judges also what its own session has just written */
#define inDoubt(o) (ledger[o] == SENDING && r[me].licence[o] == NOTHING)
#elif defined(KEEP_LICENCE)          /* R2 broken: a licence outlives its session, which is judged all the same */
#define inDoubt(o) (ledger[o] == SENDING && !r[me].wrote[o])
#else
#define inDoubt(o) (ledger[o] == SENDING && r[me].licence[o] == NOTHING && !r[me].wrote[o])
#endif
#ifdef PARTIAL_IS_ABSENT             /* G6 broken: a part that did not come counts as empty */
#define whole      true
#else
#define whole      r[me].complete
#endif
#define absent(o)  (!r[me].seen[o] && whole)
#ifdef NOT_ADOPTED                   /* R19 broken: our own reference without a row is left alone */
#define unknown(o) false
#else
#define unknown(o) (ledger[o] == NONE)
#endif
#define adoptable(o) (r[me].seen[o] && (unknown(o) || ledger[o] == QUEUED || ledger[o] == IN_DOUBT || ledger[o] == CANCELLED))
#define doubtful(o)  (inDoubt(o) || adoptable(o))

#ifdef ROLLBACK
#define toHold     r[me].mustHold
#ifdef HOLD_ALWAYS                   /* stricter than the code: after every change of place, until an operator has looked */
#define holdNow(x) (copy == PROMOTED && !looked)
#elif defined(NO_HOLD)               /* R18 broken: nobody compares what was seen with what there is */
#define holdNow(x) false
#elif defined(HOLD_DIES)             /* R18 broken: the hold is its leader's, and what that one wrote fills the log up again */
#define holdNow(x) (copy == PROMOTED && (r[x].sawMore || memMore) && !regrown)
#else                                /* this replica or etcd has seen an event that is not there, or an earlier term holds */
#define holdNow(x) (held || (copy == PROMOTED && !looked && (r[x].sawMore || memMore)))
#endif
#ifdef STRICT                        /* what nobody who can be asked has ever seen is judged as well */
#define unseen(x)  false
#else
#define unseen(x)  (copy == PROMOTED && newer && !looked && !held && !r[x].sawMore && !memMore)
#endif
#define licensed(o) (ledger[o] == SENDING || copy == PROMOTED)
#ifdef INCOMPLETE_AFTER              /* R18 broken: after the database went back, an incomplete snapshot opens the gate */
#define enough     true
#else
#define enough     (copy != PROMOTED || whole)
#endif
#else
#define toHold     false
#define unseen(x)  false
#define licensed(o) (ledger[o] == SENDING)
#define enough     true
#endif
#define mayAccept  (!toHold)         /* 503 from the claim on */
#ifdef END_BEFORE_HOLD               /* QUEUED is taken for "not sent" before the broker was looked at */
#define mayEnd     true
#else
#define mayEnd     (!toHold)
#endif
#ifdef HASTY_OPERATOR                /* resolves the hold without looking */
#define allSeen    true
#else
#define isInside(o) inside[o]
#define allSeen    (!any(isInside))
#endif
#if CANCELS && !defined(FORGETFUL_CLIENT)
#define placed(o)  (ledger[o] == NONE && !told[o])         /* a client does not place again what it knows is cancelled */
#else
#define placed(o)  (ledger[o] == NONE)
#endif
#if CANCELS && !defined(QUEUE_FORGETS_CANCEL)
#define dropped(o) (wanted[o] > 0)                         /* a cancel is asked for: it is not licensed any more */
#else
#define dropped(o) false
#endif

/* ------------------------------------------------------------------------------------------- small actions */
#define unsee(o)   r[me].seen[o] = 0
#define unwrite(o) r[me].wrote[o] = 0
#define unlicense(o) r[me].licence[o] = NOTHING
#define uncancel(o) r[me].cancelling[o] = 0
#define look(o)    r[me].seen[o] = (worth && broker[o] > 0)
#define expire(o)  if :: ledger[o] == QUEUED -> ledger[o] = CANCELLED :: else fi
inline dropSnapshot() { each(unsee); r[me].collected = 0; r[me].complete = 0 }
inline sessionEnds() {
  dropSnapshot(); each(unwrite); r[me].proved = 0;
#if CANCELS
  each(uncancel);
#endif
}
inline licenceEnds(o) {
  if :: r[me].licence[o] == DRAFTED -> r[me].licence[o] = DRAFT_OVER
     :: r[me].licence[o] == LICENSED -> r[me].licence[o] = LICENCE_OVER
     :: else fi
}
inline sessionLost() {               /* node.session_lost: licences die with their session (R2) */
  sessionEnds();
#ifndef KEEP_LICENCE
  each(licenceEnds);
#endif
  r[me].phase = CONNECTING
}
inline forgetTerm() {
  sessionEnds(); each(unlicense);
#ifdef ROLLBACK
  r[me].mustHold = 0;
#endif
  r[me].epoch = 0; r[me].base = 0; r[me].suspects = 0; r[me].proof = FRESH
}
inline hangUp() { if :: session[cid] == me -> eof[cid] = 1 :: else fi }    /* what was written may still be read */
inline endTerm() {                   /* gate, then session; the lease follows */
  printf("%d:   refused, its term is over: gate shut, session aborted\n", me);
  hangUp(); forgetTerm(); r[me].phase = STEPPING_DOWN
}
inline committed() {                 /* bookkeeping of a commit that was not refused */
  rule(G1_one_writer, r[me].epoch == top);
  r[me].proof = FRESH;
#ifdef ROLLBACK
#ifdef HOLD_DIES
  if :: copy == PROMOTED -> regrown = 1 :: else fi;
#endif
  if :: copy == LAGS -> newer = 1; r[me].sawMore = 1 :: else fi
#endif
}
inline commit(o, word) {
  printf("%d: commits order %d as %e\n", me, o, word);
  if :: refused -> endTerm() :: else -> ledger[o] = word; committed() fi
}
inline bytes(o) {                    /* onto the wire; a dead socket swallows them silently */
  if :: connected ->
        rule(G2_one_sender, r[me].proof != OVERDUE && alone);
        rule(G4_nothing_twice, licensed(o));               /* what was licensed once is never sent again by itself */
#if CANCELS
        rule(C_cancelled_is_not_sent, !told[o]);
#endif
        socket[cid]!o
     :: else -> printf("%d:   into a dead socket\n", me)
  fi
}
inline arrive(o) {
  broker[o]++; printf("gateway: takes order %d; the broker has %d of it\n", o, broker[o]);
  check(G4_nothing_twice, broker[o] <= 1)
}
inline collect(worth) {              /* reconcile.collect */
  each(look); r[me].collected = 1; r[me].complete = worth;
  printf("%d: collects a snapshot (complete: %d), it shows order 0: %d\n", me, worth, r[me].seen[0])
}
#ifdef ROLLBACK
inline catchUp() {                   /* tail.catch_up: read to the head; what was seen stays known */
  if :: r[me].knows < epoch -> r[me].knows = epoch :: else fi;
  if :: copy == LAGS && newer -> r[me].sawMore = 1 :: else fi;
  r[me].moved = (copy == PROMOTED)
}
inline forgetAll() { r[me].knows = 0; r[me].sawMore = 0; r[me].moved = (copy == PROMOTED) }
#else
inline catchUp() { skip }
inline forgetAll() { skip }
#endif

/* ------------------------------------------------------------------------------------------------ a replica */
proctype Replica(byte me) {          /* its term: ha/role.py row by row */
  byte next;
end: do
  /* STANDBY -LEADERLESS-> CAMPAIGNING, STANDBY -SUSPECTED-> CAMPAIGNING (R30): the epoch is read first (R31) */
  :: d_step { is(STANDBY) && lease == 0 -> catchUp();
       printf("%d: STANDBY -LEADERLESS-> CAMPAIGNING, read epoch %d\n", me, epoch);
       r[me].base = epoch; r[me].phase = CAMPAIGNING }
  :: d_step { is(STANDBY) && lease == 3 - me && fault -> faults++; catchUp();
       printf("%d: STANDBY -SUSPECTED-> CAMPAIGNING, read epoch %d\n", me, epoch);
       r[me].base = epoch; r[me].suspects = 1; r[me].phase = CAMPAIGNING }
  /* CAMPAIGNING -WON-> CLAIMING: the key was free, or still that leader's. -LOST-> STANDBY */
  :: d_step { is(CAMPAIGNING) && lease == (r[me].suspects -> 3 - me : 0) ->
       printf("%d: CAMPAIGNING -WON-> CLAIMING, the lease is its own\n", me);
       lease = me; r[me].suspects = 0; r[me].phase = CLAIMING }
  :: d_step { is(CAMPAIGNING) && lease != (r[me].suspects -> 3 - me : 0) ->
       printf("%d: CAMPAIGNING -LOST-> STANDBY\n", me);
       r[me].base = 0; r[me].suspects = 0; r[me].phase = STANDBY }
  /* CLAIMING -CLAIMED-> CONNECTING: ledger.claim and what follows it on the same connection */
  :: d_step { is(CLAIMING) && !unseen(me) -> catchUp(); printf("%d: claims\n", me);
#ifdef NO_CAS                        /* R31 broken: whatever the epoch was before */
       if :: false -> skip
#else
       if :: r[me].base != epoch -> endTerm()              /* PA002 */
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
             printf("%d: CLAIMING -CLAIMED-> CONNECTING, epoch %d\n", me, next);
             rule(G1_one_writer, next > top);
             epoch = next; r[me].epoch = next; r[me].base = 0;
#ifdef ROLLBACK
             top = next; r[me].knows = next;
#ifndef REMEMBER_LATER
             memEpoch = next;        /* etcd knows it before anything is done under it */
#endif
             r[me].mustHold = holdNow(me); held = (held || r[me].mustHold);
#endif
             r[me].phase = CONNECTING
       fi; next = 0 }
#ifdef ROLLBACK
  /* tender._remember: once a second, under the leader key */
  :: d_step { hasEpoch && lease == me && !toHold && r[me].sawMore && !memMore ->
       printf("%d: keeps the head of the log in etcd\n", me); memMore = 1 }
#ifdef REMEMBER_LATER
  :: d_step { hasEpoch && lease == me && !toHold && memEpoch != r[me].epoch ->
       printf("%d: keeps its epoch in etcd\n", me); memEpoch = r[me].epoch }
#endif
  :: d_step { is(STANDBY) && copy == LAGS && newer && !r[me].sawMore -> printf("%d: tails\n", me); catchUp() }
#endif
  /* CONNECTING: prove the epoch, verify the lease, dial (R13) */
#ifdef EARLY_SNAPSHOT
  :: d_step { is(CONNECTING) && !r[me].collected -> collect(1) }
  :: d_step { is(CONNECTING) && !r[me].collected && fault -> faults++; collect(0) }
#endif
  :: d_step { is(CONNECTING) && r[me].proved == 0 && mayDial && leaseHeld && mayLeave ->
       printf("%d: proves its epoch, verifies its lease\n", me); r[me].proved = 1; r[me].proof = FRESH }
  /* CONNECTING -ADMITTED-> RECONCILING: the clientId was free, so every earlier session is dead */
  :: d_step { is(CONNECTING) && r[me].proved == 1 && session[cid] == 0 ->
       printf("%d: CONNECTING -ADMITTED-> RECONCILING\n", me);
       session[cid] = me; r[me].proved = 0; r[me].phase = RECONCILING }
  /* 326: prove again, then the agent drops whatever session it finds */
  :: d_step { is(CONNECTING) && r[me].proved == 1 && session[cid] != 0 && !eof[cid] ->
       printf("%d: dials, 326: the session is %d's\n", me, session[cid]);
       if :: mayDial -> r[me].proved = 2 :: else -> endTerm() fi }
  :: d_step { is(CONNECTING) && r[me].proved == 2 -> r[me].proved = 0;
       if :: session[cid] != 0 -> printf("%d: its agent drops the session of %d\n", me, session[cid]); eof[cid] = 1 :: else fi }
  /* RECONCILING: SESSION_OPENED is committed, then the broker is asked; a part may not come */
  :: d_step { is(RECONCILING) && !r[me].collected && connected -> if :: refused -> endTerm() :: else -> collect(1) fi }
  :: d_step { is(RECONCILING) && !r[me].collected && connected && fault -> faults++;
       if :: refused -> endTerm() :: else -> collect(0) fi }
  :: d_step { is(RECONCILING) && r[me].collected && !r[me].complete -> printf("%d: will collect again\n", me); dropSnapshot() }
  /* RECONCILING -AGREED-> LEADING, RECONCILING -MUST_HOLD-> HOLDING; the barrier commits under the epoch */
  :: d_step { is(RECONCILING) && r[me].collected && !any(doubtful) && enough ->
       if :: refused -> endTerm()
          :: else -> dropSnapshot(); r[me].proof = FRESH;
             if :: toHold -> printf("%d: RECONCILING -MUST_HOLD-> HOLDING\n", me); r[me].phase = HOLDING
                :: else -> printf("%d: RECONCILING -AGREED-> LEADING\n", me);
#ifdef ROLLBACK
                   rule(G9_time_goes_back_noticed, !(copy == PROMOTED && newer) || looked);
#endif
                   r[me].phase = LEADING
             fi
       fi }
#ifdef ROLLBACK
  /* HOLDING -RELEASED_HOLD-> CONNECTING: an operator has looked, nothing of ours is still on its way inside the gateway */
  :: d_step { is(HOLDING) && allSeen ->
       if :: refused -> endTerm()
          :: else -> printf("%d: HOLDING -RELEASED_HOLD-> CONNECTING\n", me);
#ifndef QUICK_OPERATOR               /* what was QUEUED is older than max_intent_age by now (R8) */
             each(expire);
#endif
             hangUp(); sessionLost(); looked = 1; held = 0; memMore = 0; r[me].mustHold = 0; r[me].sawMore = 0
       fi }
#endif
#if ROUNDS
  /* LEADING: a reconciliation of the live session */
  :: d_step { is(LEADING) && !r[me].collected && rounds < ROUNDS && connected -> rounds++; collect(1) }
  :: d_step { is(LEADING) && !r[me].collected && rounds < ROUNDS && connected && fault -> faults++; rounds++; collect(0) }
  :: d_step { is(LEADING) && r[me].collected && !any(doubtful) -> dropSnapshot() }
#endif
  /* LEADING, RECONCILING -SESSION_LOST-> CONNECTING: the gateway's end, or a cut that the gateway does not see (half-open) */
  :: d_step { (is(RECONCILING) || is(LEADING)) && !connected ->
       printf("%d: %e -SESSION_LOST-> CONNECTING\n", me, r[me].phase); sessionLost() }
  :: d_step { (is(RECONCILING) || is(LEADING)) && connected && fault -> faults++;
       printf("%d: %e -SESSION_LOST-> CONNECTING, half-open at the gateway\n", me, r[me].phase); sessionLost() }
  /* -ENDED-> STEPPING_DOWN: told, now or late, that the lease is gone, or by the proof that the epoch or the place is */
  :: d_step { (is(CLAIMING) || hasEpoch) && lease != me -> printf("%d: learns that its lease is gone\n", me); endTerm() }
  :: d_step { hasEpoch && proofFails -> printf("%d: cannot prove its epoch\n", me); endTerm() }
  /* STEPPING_DOWN -QUIET-> STANDBY */
  :: d_step { is(STEPPING_DOWN) -> printf("%d: STEPPING_DOWN -QUIET-> STANDBY\n", me);
       r[me].phase = STANDBY; if :: lease == me -> lease = 0 :: else fi }
  /* the proof of epoch every 250 ms (R12) */
  :: d_step { hasEpoch && r[me].proof == OLD && !proofFails -> printf("%d: proves its epoch again\n", me); r[me].proof = FRESH }
  /* it dies and starts again, empty: the kernel closes its socket, or the host is gone with it (half-open) */
  :: d_step { !is(STANDBY) && fault -> faults++; printf("%d: dies in %e, its socket is closed\n", me, r[me].phase);
       hangUp(); forgetTerm(); forgetAll(); r[me].phase = STANDBY }
  :: d_step { !is(STANDBY) && fault -> faults++; printf("%d: dies in %e with its host, half-open at the gateway\n", me, r[me].phase);
       forgetTerm(); forgetAll(); r[me].phase = STANDBY }
#ifdef ROLLBACK
  :: d_step { is(STANDBY) && (r[me].sawMore || r[me].knows > 0) && fault -> faults++; printf("%d: dies as standby\n", me); forgetAll() }
#endif
  od
}

#define idle(o)    (r[me].licence[o] == NOTHING)
#define draft(o)   (r[me].licence[o] == DRAFTED || r[me].licence[o] == DRAFT_OVER)
#define judging    (is(RECONCILING) || is(LEADING)) && r[me].collected

proctype Desk(byte me; byte o) {     /* one order at one replica: engine/submit.py, engine/inbound.py, reconcile/table.py */
end: do
  /* accept with the gate open: the intent carries its licence; accept with the gate shut: QUEUED */
#ifdef SEND_FIRST                    /* written, then committed */
  :: d_step { is(LEADING) && proven && placed(o) && idle(o) && !r[me].wrote[o] -> r[me].licence[o] = LICENSED }
  :: d_step { is(LEADING) && ledger[o] == NONE && r[me].wrote[o] -> commit(o, SENDING) }
#else
  :: d_step { is(LEADING) && proven && placed(o) && idle(o) ->
       printf("%d: accepts order %d, gate open\n", me, o); r[me].licence[o] = DRAFTED }
#endif
  :: d_step { hasEpoch && !is(HOLDING) && proven && placed(o) && idle(o) && mayAccept ->
       printf("%d: accepts order %d, gate shut\n", me, o); commit(o, QUEUED) }
  /* the gate opens: a second commit is the licence (desk.work_queue) */
  :: d_step { is(LEADING) && proven && ledger[o] == QUEUED && idle(o) && !dropped(o) ->
       printf("%d: will license order %d\n", me, o); r[me].licence[o] = DRAFTED }
  /* the licence's commit (R2); the book takes it only for an order that waits */
#ifdef NO_LOCK                       /* R10 broken: the trigger compares epochs and holds nothing until the commit */
  :: d_step { hasEpoch && draft(o) && !refused && !r[me].open[o] ->
       printf("%d: begins the commit of order %d, the trigger lets it pass\n", me, o); r[me].open[o] = 1 }
  :: d_step { hasEpoch && draft(o) && r[me].open[o] -> r[me].open[o] = 0; printf("%d: commits\n", me);
       ledger[o] = SENDING; committed(); r[me].licence[o] = (r[me].licence[o] == DRAFTED -> LICENSED : LICENCE_OVER) }
#else
  :: d_step { hasEpoch && draft(o) ->
       if :: ledger[o] == NONE || ledger[o] == QUEUED ->
#if CANCELS
             rule(C_cancelled_is_not_sent, wanted[o] == 0 || refused);
#endif
             commit(o, SENDING);
             if :: r[me].licence[o] == DRAFTED -> r[me].licence[o] = LICENSED
                :: r[me].licence[o] == DRAFT_OVER -> r[me].licence[o] = LICENCE_OVER
                :: else fi
          :: else -> r[me].licence[o] = NOTHING            /* refused by the book, nothing written */
       fi }
#endif
  /* the commit's answer: permit check and write on adjacent lines */
  :: d_step { is(LEADING) && r[me].licence[o] == LICENSED && proven -> printf("%d: writes order %d\n", me, o);
       bytes(o); r[me].licence[o] = NOTHING; r[me].wrote[o] = 1 }
  :: d_step { hasEpoch && r[me].licence[o] == LICENSED && !proven ->
       printf("%d: its proof is old, order %d is not written\n", me, o); r[me].licence[o] = LICENCE_OVER }
  /* this process knows that it wrote nothing: the licence is taken back (R4) */
  :: d_step { hasEpoch && r[me].licence[o] == LICENCE_OVER -> r[me].licence[o] = NOTHING;
       if :: ledger[o] == SENDING -> printf("%d: takes a licence back\n", me); commit(o, QUEUED) :: else fi }
#ifdef TAKE_BACK_BLIND               /* R4 broken: taken back without knowing */
  :: d_step { (is(RECONCILING) || is(LEADING)) && ledger[o] == SENDING && r[me].wrote[o] -> r[me].wrote[o] = 0; commit(o, QUEUED) }
#endif
  /* the broker shows it on the live stream */
  :: d_step { onSession && connected && broker[o] > 0 && (ledger[o] == SENDING || ledger[o] == QUEUED || ledger[o] == IN_DOUBT) ->
       printf("%d: the broker shows order %d\n", me, o); r[me].wrote[o] = 0; commit(o, WORKING) }
#ifndef NO_ACK_DEADLINE              /* unanswered for too long: our own session is aborted, and judged as a dead one's (R5) */
  :: d_step { is(LEADING) && connected && r[me].wrote[o] && ledger[o] == SENDING ->
       printf("%d: order %d is unanswered for too long, aborts its session\n", me, o); hangUp(); sessionLost() }
#endif
  /* reconcile/table.py */
  :: d_step { judging && inDoubt(o) && r[me].seen[o] -> printf("%d: sending_present\n", me); commit(o, WORKING) }
  :: d_step { judging && adoptable(o) -> printf("%d: restored, queued_yet_present, reopened or surfaced\n", me); commit(o, WORKING) }
#ifdef RESEND                        /* R1 broken: absent, so it is sent again */
  :: d_step { judging && inDoubt(o) && absent(o) -> printf("%d: order %d is absent\n", me, o); commit(o, QUEUED) }
#else
  :: d_step { judging && inDoubt(o) && absent(o) -> printf("%d: sending_absent\n", me);
#ifdef PROMPT                        /* what a lazy gateway keeps inside, no snapshot can show */
       rule(G6_unknown_stays_unknown, refused || (broker[o] == 0 && !(socket[0]??[eval(o)]) && !(socket[1]??[eval(o)])));
#endif
       commit(o, IN_DOUBT) }
#endif
  :: d_step { judging && inDoubt(o) && !r[me].seen[o] && !r[me].complete -> printf("%d: sending_unproven\n", me); commit(o, IN_DOUBT) }
#if CANCELS
  /* a cancel is asked for: before it was sent, before it is live, while it is live (R7) */
  :: d_step { hasEpoch && proven && cancels < CANCELS && ledger[o] == QUEUED && idle(o) && mayEnd -> cancels++;
       if :: refused -> skip :: else -> told[o] = 1 fi; commit(o, CANCELLED) }
  :: d_step { hasEpoch && proven && cancels < CANCELS && wanted[o] == 0 && (ledger[o] == SENDING || ledger[o] == IN_DOUBT) ->
       cancels++; printf("%d: a cancel is asked for\n", me); if :: refused -> endTerm() :: else -> wanted[o] = 1; committed() fi }
  :: d_step { (is(LEADING) || is(HOLDING)) && proven && cancels < CANCELS && wanted[o] == 0 && ledger[o] == WORKING -> cancels++;
       printf("%d: a cancel is licensed\n", me);
       if :: refused -> endTerm() :: else -> wanted[o] = 2; r[me].cancelling[o] = 1; committed() fi }
#ifndef QUEUE_FORGETS_CANCEL         /* its licence was taken back meanwhile: it ends here */
  :: d_step { hasEpoch && proven && ledger[o] == QUEUED && wanted[o] == 1 && idle(o) && mayEnd ->
       if :: refused -> skip :: else -> told[o] = 1 fi; commit(o, CANCELLED) }
#endif
  :: d_step { (is(LEADING) || is(HOLDING)) && wanted[o] == 1 && ledger[o] == WORKING -> printf("%d: a cancel is licensed\n", me);
       if :: refused -> endTerm() :: else -> wanted[o] = 2; r[me].cancelling[o] = 1; committed() fi }
  :: d_step { onSession && r[me].cancelling[o] -> printf("%d: writes a cancel\n", me);
       r[me].cancelling[o] = 0; if :: connected -> socket[cid]!(o + ORDERS) :: else fi }
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
          :: else -> o = o - ORDERS; if :: broker[o] > 0 -> over[o] = 1 :: else fi         /* 10147: no such order */
#endif
       fi; o = 0 }
  :: d_step { eof[c] && len(socket[c]) > 0 -> printf("gateway: a reset, unread bytes are gone\n"); socket[c]?o; o = 0 }
  :: d_step { eof[c] && len(socket[c]) == 0 -> printf("gateway: the session of %d is dead\n", session[c]); eof[c] = 0; session[c] = 0 }
#ifndef PROMPT                       /* it keeps an order inside, unseen: a contract lookup, the link to IB silently down */
#define keeps(n) \
  :: d_step { socket[c]?[n] -> printf("gateway: keeps order %d inside\n", n); socket[c]?o; inside[n] = 1; o = 0 } \
  :: d_step { c == 0 && inside[n] -> inside[n] = 0; arrive(n) } \
  :: d_step { c == 0 && inside[n] -> printf("gateway: loses order %d\n", n); inside[n] = 0 }
  keeps(0)
#if ORDERS > 1
  keeps(1)
#endif
#endif
#if CANCELS
  :: d_step { c == 0 && broker[0] > 0 && !over[0] && cancels > 0 -> over[0] = 1 }          /* it fills */
#endif
  :: d_step { c == 0 && fault && (session[0] != 0 || session[1] != 0) -> faults++; printf("gateway: restarts\n");
       session[0] = 0; session[1] = 0; eof[0] = 0; eof[1] = 0;
       do :: len(socket[0]) > 0 -> socket[0]?o
          :: len(socket[1]) > 0 -> socket[1]?o
          :: len(socket[0]) + len(socket[1]) == 0 -> break
       od; o = 0 }
  od
}

#define dead(x)    (r[x].phase == STANDBY || r[x].phase == CAMPAIGNING)
#define ages(x) \
  :: d_step { r[x].epoch != 0 && r[x].epoch != top && r[x].proof == FRESH -> \
       printf("world: a second has passed since %d was superseded\n", x); r[x].proof = OVERDUE } \
  :: d_step { r[x].epoch != 0 && r[x].epoch == top && r[x].proof == FRESH && fault -> faults++; \
       printf("world: %d stands still, or the database is away, for a second\n", x); r[x].proof = OLD }
proctype World() {
end: do
  :: d_step { lease != 0 && dead(lease) -> printf("etcd: the lease of %d is over, it is dead\n", lease); lease = 0 }
  :: d_step { lease != 0 && !dead(lease) && fault -> faults++; printf("etcd: the lease of %d is over, it does not know\n", lease); lease = 0 }
  ages(1)
  ages(2)
#ifdef ROLLBACK
#if CANCELS
#define save(o)    oldLedger[o] = ledger[o]; oldWanted[o] = wanted[o]
#define restore(o) ledger[o] = oldLedger[o]; oldLedger[o] = 0; wanted[o] = oldWanted[o]; oldWanted[o] = 0
#else
#define save(o)    oldLedger[o] = ledger[o]
#define restore(o) ledger[o] = oldLedger[o]; oldLedger[o] = 0
#endif
  :: d_step { copy == FOLLOWS && fault -> faults++; printf("database: its copy falls behind\n");
       each(save); copy = LAGS; oldEpoch = epoch }
  :: d_step { copy == LAGS -> printf("database: the copy takes its place, epoch %d -> %d\n", epoch, oldEpoch);
       each(restore); copy = PROMOTED; epoch = oldEpoch; oldEpoch = 0 }
#endif
  :: d_step { fault -> printf("world: nothing breaks any more\n"); faults = FAULTS }
  od
}

#define leads(x)   (r[x].phase == LEADING && r[x].epoch == epoch && lease == x)
#define settled(o) (!placed(o) && (((ledger[o] == WORKING || ledger[o] == ENDED) && broker[o] == 1) || \
                    ((ledger[o] == IN_DOUBT || ledger[o] == CANCELLED || ledger[o] == NONE) && broker[o] == 0)))
#define lost(o)    (!settled(o))
/* G9's limit: a claim by a replica that, like etcd, has never seen what the database lost. The run stops before it; STRICT goes on */
#define beyond     ((r[1].phase == CLAIMING && unseen(1)) || (r[2].phase == CLAIMING && unseen(2)))
proctype Judge() {                   /* nothing can move any more */
  timeout -> d_step {
    printf("judge: order 0 is %e, the broker has %d; replicas %e, %e\n", ledger[0], broker[0], r[1].phase, r[2].phase);
    check(G3_nothing_lost, beyond || !any(lost));
    check(G3_nothing_lost, beyond || leads(1) || leads(2)) }         /* and the pair is not stuck */
}

#define begin(x)   r[x].phase = STANDBY; r[x].proof = FRESH; r[x].licence[0] = NOTHING; r[x].licence[ORDERS - 1] = NOTHING
init {
  atomic {
    begin(1); begin(2);
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
