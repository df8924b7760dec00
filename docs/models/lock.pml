/* The reader-writer lock between processes: word, mask of the parked, seats that want to write. Everybody
   but the last process may be killed at every step, and may give up while it sleeps.
   Word: own (a bit each), wr, ww (the hint), cnt (reapings, and looks of writers that go to sleep).
   0 reads from the beginning; 1 writes; 2 reads; 3 is immortal and writes. -DTWO: only 0 and 3; -DTHREE:
   without 2. -DIR: 2 writes and 3 reads. -DDOWN: the writer becomes a reader for ever; 2 and 3 read.
   -DEVER: 0 reads for ever, 1 and 2 want to write and are killed or give up in the end; 3, a reader, must
   get in. A process that sleeps for ever is an invalid end state.
   Broken: -DUNRUNG takes the hint back and rings afterwards; -DSILENT takes it back and does not ring;
   -DCOUNT a writer that finds the hint set leaves the word as it is; -DMASKLATE enters the mask after the
   look; -DMASKEARLY reads the mask before it gives the lock back; -DNOWATCH a reader does not watch who
   wants to write; -DSTAY nobody takes a dead one's hint back; -DOWNERS nobody watches the owners;
   -DNODOWN a downgrade rings nobody. */
#define N 4
#define LAST 3
#define B(i) (1<<(i))
byte own=1; bool wr, ww; byte cnt;
byte mask, deadm;
byte wt[N], pk[N]; bool bell[N], wants[N];
#define MAYDIE if :: skip :: i!=LAST -> deadm=deadm|B(i); goto die fi
#define SAME (own==sown && wr==swr && ww==sww && cnt==scnt)
#define SEE sown=own; swr=wr; sww=ww; scnt=cnt
#define FORGET sown=0; swr=false; sww=false; scnt=0
/* Rings those in m; a waker killed between ring and clear leaves the number. */
#define RING(j) if :: (m & B(j)) && wt[j]!=0 && i!=j -> w=wt[j]; MAYDIE; bell[j]=true; MAYDIE; \
    atomic{ if :: wt[j]==w -> wt[j]=0 :: else fi; w=0 } :: else fi
#define RINGM RING(0); RING(1); RING(2); RING(3); m=0
#define RINGALL m=mask; MAYDIE; RINGM
#define UNHINT atomic{ if :: SAME && ww -> ww=false :: else fi; FORGET }

proctype P(byte i; bool iw; bool owns){
  byte h, w, m, sown, scnt; bool swr, sww, awaited, did;
  if :: owns -> goto have :: else fi;
again:
  h=0;
#ifndef MASKLATE
  if :: !(mask & B(i)) -> mask=mask|B(i); MAYDIE :: else fi;
#endif
  atomic{ pk[i]=pk[i]%12+1; wt[i]=pk[i] };
look:
  MAYDIE;
  atomic{ if
    :: iw && own==0 -> own=B(i); wr=true; ww=false; goto got
    :: !iw && !wr && (own==0 || !ww) -> if :: own==0 -> ww=false :: else fi; own=own|B(i); goto got
    :: else -> SEE fi };
  MAYDIE;
  if :: iw ->
       wants[i]=true; MAYDIE;
       atomic{ if :: !SAME -> FORGET; goto look
#ifdef COUNT
                  :: SAME && ww -> skip
                  :: SAME && !ww -> ww=true; cnt=(cnt+1)%16 fi };
#else
                  :: SAME -> ww=true; cnt=(cnt+1)%16 fi };
#endif
       MAYDIE
     :: else fi;
  /* Watch the owners of the look; bury the dead. */
  h=sown & ~B(i);
  if :: atomic{ (h & deadm)!=0 -> did=((own & h & deadm)!=0); 
          if :: did -> cnt=(cnt+1)%16; own=own & ~(h & deadm); if :: own==0 -> wr=false :: else fi :: else fi;
          h=0; FORGET };
        MAYDIE; if :: did -> did=false; RINGALL :: else fi; goto look
     :: else fi;
#ifdef OWNERS
  h=0;
#endif
  if :: !iw && !swr ->
#ifndef NOWATCH
#define SCAN(j) atomic{ if :: i!=j && wants[j] && !(deadm & B(j)) -> h=h|B(j); awaited=true :: else fi }
#else
#define SCAN(j) atomic{ if :: i!=j && wants[j] && !(deadm & B(j)) -> awaited=true :: else fi }
#endif
        SCAN(0); SCAN(1); SCAN(2); SCAN(3);
        if :: awaited -> awaited=false
#ifndef STAY
           :: else -> h=0;
#ifdef UNRUNG
             atomic{ did=ww; ww=false; FORGET }; MAYDIE; if :: did -> did=false; RINGALL :: else fi;
#else
#ifndef SILENT
             RINGALL;
#endif
             MAYDIE; UNHINT;
#endif
             goto look
#else
           :: else
#endif
        fi
     :: else fi;
  FORGET;
  MAYDIE;
#ifdef MASKLATE
  if :: !(mask & B(i)) -> mask=mask|B(i); MAYDIE :: else fi;
#endif
park:
  if :: atomic{ bell[i] -> bell[i]=false }; goto again
     :: atomic{ (h & deadm)!=0 -> h=0 }; goto again
     :: i!=LAST -> deadm=deadm|B(i); goto die
     :: i!=LAST && iw -> goto cancel
     :: i!=LAST && !iw -> goto left
  fi;
cancel:
  h=0; wt[i]=0; MAYDIE; mask=mask & ~B(i); MAYDIE; wants[i]=false; MAYDIE;
#ifdef UNRUNG
  atomic{ did=ww; ww=false }; MAYDIE; if :: did -> did=false; RINGALL :: else fi;
#else
  atomic{ SEE };
#ifndef SILENT
  RINGALL;
#endif
  MAYDIE; UNHINT;
#endif
  goto die;
got:
  FORGET; wt[i]=0; MAYDIE; mask=mask & ~B(i); MAYDIE; wants[i]=false;
have:
#ifdef EVER
  if :: i==0 -> goto die :: else fi;
#endif
  MAYDIE; assert((own & B(i)) && (wr==iw) && (!wr || own==B(i)));
#ifdef DOWN
  if :: iw -> wr=false; MAYDIE;
#ifndef NODOWN
        RINGALL;
#endif
        goto die
     :: else fi;
#endif
#ifdef MASKEARLY
  m=mask;
#endif
  atomic{ own=own & ~B(i); wr=false; did=(own==0) }; MAYDIE;
  if :: did -> did=false;
#ifdef MASKEARLY
        RINGM
#else
        RINGALL
#endif
     :: else fi;
  goto die;
left: wt[i]=0; MAYDIE; mask=mask & ~B(i);
die: skip }

#if defined(EVER)
#define R2 true
#define R3 false
#elif defined(DOWN)
#define R2 false
#define R3 false
#elif defined(IR)
#define R2 true
#define R3 false
#else
#define R2 false
#define R3 true
#endif
init{ atomic{ run P(0,false,true);
#ifndef TWO
  run P(1,true,false);
#ifndef THREE
  run P(2,R2,false);
#endif
#endif
  run P(3,R3,false) } }
