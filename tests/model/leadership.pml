/* Lease, claim and outbox: what several schedulers, one Redis and one broker can do to each other.

   Each step between two semicolons of a scheduler may be followed by any step of another, by the end of its process, by the end of its
   lease, by a take-over although it lives (it was paused, or cut off), or by the loss of an answer. Each of these costs one of FAULTS; when
   they are spent, what remains must come to a good end. A script of ours is one atomic step. The broker checks nothing.

   Safety: a slot is claimed once; what is settled has been published; writes are accepted in the order of epochs.
   Liveness: when the faults are over, every slot is settled.

   With one of these defined the model has a fault that must be found:
     NO_FENCE       scripts do not look at the epoch
     NO_MARK        a claim does not look at the mark
     SETTLE_FIRST   a message is settled before it is published
     TTL_ONLY       a stand-by takes over only when the lease has run out, which a server clock set back prevents
     NO_REPUBLISH   a new leader does not look into the outbox
*/

#define SCHEDULERS 2
#define SLOTS 2
#ifndef FAULTS
#define FAULTS 3
#endif
#define NOBODY 255

mtype = { none, claimed, settled };

byte leader_epoch = 0, leader_owner = NOBODY, counter = 0;
byte last_epoch = 0;                 /* the epoch key */
byte written_epoch = 0;              /* of the last write that was accepted */
byte mark = 0;                       /* slots are numbered from 1 */
mtype outbox[SLOTS + 1] = none;
byte claims[SLOTS + 1] = 0;
bool published[SLOTS + 1] = false;
bool dead[SCHEDULERS] = false;
bool clock_set_back = false;
byte faults = FAULTS;

#ifdef NO_FENCE
#define fenced(epoch) true
#else
#define fenced(epoch) (leader_epoch == epoch)
#endif

#ifdef NO_MARK
#define unclaimed(slot) (outbox[slot] != settled)
#else
#define unclaimed(slot) (mark < slot)
#endif

#define leader_is_dead (leader_epoch != 0 && dead[leader_owner])
#define all_settled (outbox[1] == settled && outbox[2] == settled)

inline accept(epoch) { assert(epoch >= written_epoch); written_epoch = epoch }

/* Only one scheduler may end, so that somebody is left to lead. */
inline may_end() {
  if
  :: true
  :: atomic { faults > 0 && !dead[0] && !dead[1] -> faults--; dead[me] = true; goto ended }
  fi
}

inline take_the_lead() {
  last_epoch++; epoch = last_epoch; leader_epoch = epoch; leader_owner = me; counter = 0
}

proctype Scheduler(byte me) {
  byte epoch = 0, seen_epoch = 0, seen_counter = 0, slot = 0;

standing_by:
  do
  :: atomic { leader_epoch == 0 -> take_the_lead(); break }
#ifndef TTL_ONLY
  :: atomic { leader_is_dead && leader_epoch == seen_epoch && counter == seen_counter -> take_the_lead(); break }
  :: atomic { faults > 0 && leader_epoch != 0 && leader_owner != me && leader_epoch == seen_epoch && counter == seen_counter ->
              faults--; take_the_lead(); break }
  :: atomic { leader_epoch != 0 && (leader_epoch != seen_epoch || counter != seen_counter) ->
              seen_epoch = leader_epoch; seen_counter = counter }
#endif
  :: all_settled -> goto ended
  od;

  /* What older terms left is published again. */
#ifndef NO_REPUBLISH
  slot = 1;
  do
  :: slot > SLOTS -> break
  :: slot <= SLOTS && outbox[slot] != claimed -> slot++
  :: slot <= SLOTS && outbox[slot] == claimed ->
     may_end();
     published[slot] = true;
     may_end();
     atomic {
       if
       :: fenced(epoch) -> accept(epoch); outbox[slot] = settled; slot++
       :: else -> epoch = 0; goto standing_by
       fi
     }
  od;
#endif

leading:
  do
  :: all_settled -> goto ended
  :: atomic { leader_epoch == epoch && counter < 1 -> counter++ }            /* renew */
  :: atomic { leader_epoch != epoch && epoch != 0 -> epoch = 0; goto standing_by }   /* a renewal is refused */
  :: mark < SLOTS ->
     slot = mark + 1;                /* decided on what was read before */
     may_end();
claim:
     atomic {
       if
       :: !fenced(epoch) -> epoch = 0; goto standing_by
       :: fenced(epoch) && unclaimed(slot) ->
          accept(epoch); mark = slot; outbox[slot] = claimed; claims[slot]++;
          assert(claims[slot] == 1)
       :: fenced(epoch) && !unclaimed(slot) -> skip   /* a repeated call: it was claimed by the first */
       fi
     }
     if
     :: true
     :: atomic { faults > 0 -> faults--; goto claim }   /* the answer was lost */
     fi;
     may_end();
#ifdef SETTLE_FIRST
     atomic {
       if
       :: fenced(epoch) -> accept(epoch); outbox[slot] = settled
       :: else -> epoch = 0; goto standing_by
       fi
     }
     may_end();
     published[slot] = true
#else
     published[slot] = true;
     may_end();
     atomic {
       if
       :: fenced(epoch) -> accept(epoch); outbox[slot] = settled
       :: else -> epoch = 0; goto standing_by
       fi
     }
#endif
  od;
ended:
  skip
}

/* The lease runs out by the server's clock, which may be set back. */
proctype Server() {
  do
  :: atomic { !clock_set_back && leader_is_dead -> leader_epoch = 0; leader_owner = NOBODY }
  :: atomic { !clock_set_back && leader_epoch != 0 && faults > 0 -> faults--; leader_epoch = 0; leader_owner = NOBODY }
  :: atomic { !clock_set_back && faults > 0 -> faults--; clock_set_back = true }
  :: all_settled -> break
  od
}

/* What was settled is published, at the end: while a message is under way the two may differ for a moment only in that order. */
proctype Auditor() {
  byte slot = 1;
  do
  :: slot <= SLOTS -> atomic { outbox[slot] == settled -> assert(published[slot]); slot++ }
  :: slot > SLOTS -> break
  od
}

init { atomic { run Scheduler(0); run Scheduler(1); run Server(); run Auditor() } }

ltl every_slot_is_settled { <> all_settled }
