/* One connection of a shared function: two rings, one park number for each side, whose lowest bit says
   that the sleeper waits for room too. Who published rings whoever sleeps; who only took something rings
   only a sleeper that waits for room. Memory is sequentially consistent (barriers assumed); either process
   is killed at any step, which the other is told by the kernel.

   Client: a caller A and two drivers (tasks of two runtimes, threads) that share a lock and one bell. The
   second driver may leave after any turn. Server: a driver that checks the work out while it reads, and a
   handler H that ends elsewhere and leaves its result in the mail, or sends it if the work is there.
   TWO: the second driver is there. HAND: the handler is. CHUNK: a call is two frames, answered after the
   second. CALM: nobody is killed, no call looks after the connection first. M calls (with CHUNK: frames),
   rings of CAP frames. At rest nobody who lives waits for something that is there.

   ROOM    a client that arms again forgets that it waits for room
   LEAVE   a driver takes the bell in, does the work, and leaves without arming for the other one
   IDLE    a call takes the bell in before it begins, and does not arm anew
   MAIL    a handler whose result finds no room does not arm for it
   NOLOOK  room is asked for, but not looked for behind the barrier
   EARLY   the server looks into its ring before the number stands
   SILENT  who takes something rings nobody
   NOWATCH nobody is told of a death */
#ifndef M
#define M 3
#endif
#ifndef CAP
#define CAP 1
#endif
#ifdef CHUNK
#define ANSWERS (M / 2)
#else
#define ANSWERS M
#endif
#define CL 0
#define SV 1

byte qt, qh, rt, rh;            /* requests and responses: tail, head */
byte waiting[2], next[2];
bool bell[2], dead[2];

bool held;                      /* the client's lock guards: */
byte want, got, sleepers;       /* frames without room, results, who sleeps */

bool desk, out;                 /* the server's lock; the work is checked out */
byte owed, mail, started;       /* results without room, in the mail, handlers at work */

#ifdef NOWATCH
#define DEAD(p) false
#else
#define DEAD(p) dead[p]
#endif
#define LOCK(l) atomic { !l -> l = true }
#define PARK(me, room) d_step { next[me] = (next[me] | 1) + 1 + (room); waiting[me] = next[me] }

/* Publishes what there is room for. */
inline send(pending, tail, head) {
  d_step { k = CAP - (tail - head); if :: k > pending -> k = pending :: else fi };
  d_step { pending = pending - k; tail = tail + k; if :: k > 0 -> put = true :: else fi; k = 0 }
}

/* Rings the other side, if it sleeps and this concerns it; then takes that number down, and no other. */
inline tell(other) {
  if
  :: put || taken ->
     d_step {
       w = waiting[other];
#ifdef SILENT
       if :: !put -> w = 0 :: else fi
#else
       if :: !put && !(w & 1) -> w = 0 :: else fi
#endif
     };
     if :: w != 0 ->
        bell[other] = true;
        d_step { if :: waiting[other] == w -> waiting[other] = 0 :: else fi }
     :: else
     fi;
     d_step { put = false; taken = false; w = 0 }
  :: else
  fi
}

/* ---- client: all of this holding the lock */

inline read_all() {
  do :: rt != rh -> d_step { rh++; got++; taken = true } :: else -> break od;
  send(want, qt, qh);
  tell(SV)
}

/* Lets the lock go, armed for whoever sleeps. */
inline settle() {
  do
  :: sleepers > 0 ->
#ifdef ROOM
     PARK(CL, 0);
#else
     PARK(CL, (want > 0));
#endif
     if
     :: rt != rh -> read_all()
     :: else ->
#ifndef NOLOOK
        if :: want > 0 -> send(want, qt, qh); tell(SV) :: else fi;
#endif
        break
     fi
  :: else -> break
  od;
  held = false
}

proctype Driver(bool leaves) {
  byte k, w; bool put, taken;
  {
    LOCK(held);
    sleepers++;
    settle();
turn:
    LOCK(held);
    bell[CL] = false;
    read_all();
#ifdef LEAVE
    if :: leaves -> d_step { sleepers--; held = false }; goto gone :: !leaves fi;
#endif
    settle();
    if
    :: bell[CL] -> goto turn
    :: DEAD(SV)
    :: got == ANSWERS
    :: leaves ->
       LOCK(held);
       d_step { sleepers--; if :: sleepers == 0 -> waiting[CL] = 0 :: else fi };
       held = false
    fi;
gone:
    skip
  } unless { dead[CL] }
}

proctype Caller() {
  byte k, w, n; bool put, taken;
  {
    do
    :: n < M ->
       n++;
       LOCK(held);
       if
#ifndef CALM
       :: true ->                /* idle for a while: looks after the connection first */
          bell[CL] = false;
          read_all();
          want++; send(want, qt, qh); tell(SV);
#ifdef IDLE
          held = false
#else
          settle()
#endif
#endif
       :: true ->
          want++; send(want, qt, qh); tell(SV);
          if :: want > 0 -> settle() :: else -> held = false fi
       fi
    :: else -> break
    od;
    if :: got == ANSWERS :: DEAD(SV) fi  /* its listener is told by whoever reads */
  } unless { dead[CL] }
}

/* ---- server */

proctype Server() {
  byte k, w; bool put, taken, quiet, busy;
  {
    skip;
turn:
    bell[SV] = false;
    atomic { !desk -> out = true; busy = false };
    waiting[SV] = 0;
    do
    :: qt != qh ->
       d_step { qh++; taken = true; busy = true };
#ifdef CHUNK
       owed = owed + 1 - (qh & 1)
#else
#ifdef HAND
       if :: owed++ :: started++ fi   /* done at once, or not */
#else
       owed++
#endif
#endif
    :: else -> break
    od;
    atomic { !desk -> desk = true; owed = owed + mail; mail = 0 };
    send(owed, rt, rh);
    tell(CL);
    d_step { out = false; desk = false };
    if :: busy -> goto turn :: else fi;
    LOCK(desk);
#ifdef EARLY
    quiet = (qt == qh);
    PARK(SV, (owed > 0));
#else
    PARK(SV, (owed > 0));
    quiet = (qt == qh);
#endif
#ifndef NOLOOK
    if :: owed > 0 -> send(owed, rt, rh); tell(CL) :: else fi;
#endif
    desk = false;
    if :: !quiet -> goto turn :: else fi;
    if
    :: bell[SV] -> goto turn
    :: DEAD(CL)
    :: got == ANSWERS
    fi
  } unless { dead[SV] }
}

proctype Handler() {
  byte k, w; bool put, taken, waited;
  {
    do
    :: started > 0 ->
       started--;
       LOCK(desk);
       if
       :: out -> mail++             /* the driver comes by */
       :: else ->
          waited = (owed > 0);
          owed++;
          send(owed, rt, rh);
          tell(CL);
#ifndef MAIL
          if
          :: owed > 0 && !waited ->
             PARK(SV, 1);
             send(owed, rt, rh);
             tell(CL)
          :: else
          fi
#endif
       fi;
       desk = false
    :: started == 0 && (DEAD(CL) || got == ANSWERS) -> break
    od
  } unless { dead[SV] }
}

init {
  atomic {
    run Driver(false); run Caller(); run Server();
#ifdef TWO
    run Driver(true);
#endif
#ifdef HAND
    run Handler();
#endif
  }
#ifndef CALM
  if :: dead[CL] = true :: dead[SV] = true :: skip fi
#endif
}
