/* The ring's use of the wake protocol: one producer and one consumer at a time, both may park, both
   may be killed at every step, a successor takes the role over or nobody comes.
   Tags: producers 1, 2, 3, consumers 4, 5; 3 and 5 cannot be killed. Slot 0 is the producer's, slot 1
   the consumer's. CAP messages fit, one cell more is kept free for an end. A record is 10+tag (a
   message) or tag (the end of that stream). Producers 1 and 3 and
   consumer 5 take part; also producer 2 with -DP3, also consumer 4 with -DC2.
   Claimed at rest (Mon): who still lives has finished, or has nothing to do and was told of every end
   and death before it. Claimed always: each end is told once (by its record, or by the survivor
   itself), an end always has room, the indices stay within the ring.
   Broken variants: EARLY meets the peer before `waiting` is set; NORING: a newcomer rings nobody;
   NOENDING: `ending` is not looked at; FLAG: a flag in place of the park number; WRAP: a small number;
   FIRST: the number is taken down before the bell; TAGONLY: a consumer asks only for the end of the
   producer it met, not for that of the stream that has none; CACHED: "drained" is judged before the
   look at `writer`; STALE: a death stays news after the end of that stream was told.
   A step and the choice to die after it are one atomic; dying itself comes at any time later. */
#ifndef CAP
#define CAP 1
#endif
#ifndef M
#define M 1
#endif
#define SZ (CAP+1)
#define P_ 0
#define C_ 1
byte rec[SZ]; byte tail, writer, ending, head, ended;
byte tag[2], waiting[2], died[2], park[6];
bool bell[6], dead[6], gone_[6], in[6];
byte last[2]; bool told[6], plain[6], ends[6], wrote[6];

#define MAYDIE if :: skip :: i!=3 && i!=5 -> goto die fi
#define STEP(x) atomic{ x; MAYDIE }
#ifdef FLAG
#define NUMBER 1
#else
#define NUMBER (i*16+park[i])
#endif
#ifdef WRAP
#define PARKS 3
#else
#define PARKS 15
#endif
#define CLEAR atomic{ if :: waiting[s]==w -> waiting[s]=0 :: else fi; w=0; MAYDIE }
/* Wakes whoever sleeps in slot s. */
inline ring(s){
  atomic{ w=waiting[s]; MAYDIE };
  if :: w!=0 -> t=tag[s];
        if
#ifdef FIRST
        :: t!=0 -> n=w; CLEAR; w=n; n=0; atomic{ bell[t]=!gone_[t]; w=0; t=0; MAYDIE }
#else
        :: t!=0 -> atomic{ bell[t]=!gone_[t]; t=0; MAYDIE }; CLEAR
#endif
        :: else -> w=0 fi
     :: else fi }
/* Learns who is in slot s now; whoever left by death goes into `gone`. A dead one that is known and
   whose watch has not been seen to fire may still be taken for alive. */
inline meet(s){
  atomic{ t=tag[s];
  if :: t!=0 && dead[t] && (t!=known || fired) -> died[s]=t; MAYDIE
     :: else ->
        if :: known!=0 && known!=t && died[s]==known -> gone=known :: else fi;
        if :: t!=known -> fired=false :: else fi; known=t; t=0
  fi };
  if :: atomic{ t!=0 -> if :: tag[s]==t -> tag[s]=0 :: else fi; gone=t; known=0; fired=false; t=0; MAYDIE }
     :: atomic{ else -> skip } fi }
inline attach(s){
  do :: atomic{ tag[s]==0 -> tag[s]=i; last[s]=i; in[i]=true; MAYDIE; break }
     :: atomic{ tag[s]!=0 && dead[tag[s]] -> t=tag[s]; died[s]=t; MAYDIE };
        atomic{ if :: tag[s]==t -> tag[s]=0 :: else fi; t=0; MAYDIE }
  od }
/* Step 1 of the sleeper. */
#define SET atomic{ park[i]=park[i]%PARKS+1; waiting[s]=NUMBER; MAYDIE }
/* Publishes an end of stream x, whose room nothing else may take. */
inline end_of(x){
  atomic{ assert(tail-head < SZ); rec[tail%SZ]=x; ending=tail+1; MAYDIE };
  STEP(tail=tail+1); STEP(writer=0); ring(C_) }

proctype P(byte i; byte todo){
  byte w, t, n, known, gone; bool fired; byte s=P_;
end_turn: atomic{ if :: i==1 || gone_[i-1] fi; if :: skip :: goto absent fi };
  attach(P_);
#ifndef NORING
  s=C_; ring(C_); s=P_;
#endif
  /* takeover */
  atomic{ w=writer; n=w;
#ifdef NOENDING
  if :: skip
#else
  if :: ending==tail -> n=0; writer=0; w=0
#endif
     :: else fi; MAYDIE };
  if :: n!=0 -> w=0; s=C_; end_of(n); s=P_ :: else fi; n=0; w=0;
look:
  atomic{
  if :: todo==0 -> goto close
     :: todo!=0 && tail-head<CAP -> goto push
     :: else fi;
  if :: gone!=0 -> told[gone]=true; gone=0; goto look :: else fi };
  if :: tag[C_]!=known -> meet(C_); goto look :: else fi;
#ifdef EARLY
  meet(C_); SET;
#else
  SET; meet(C_);
#endif
  if :: gone!=0 || tail-head<CAP -> STEP(waiting[P_]=0); goto look :: else fi;
end_asleep: if :: atomic{ bell[i] -> bell[i]=false; MAYDIE } :: atomic{ known!=0 && dead[known] -> fired=true }; meet(C_) fi;
  STEP(waiting[P_]=0); goto look;
push: rec[tail%SZ]=10+i;
  if :: !wrote[i] -> STEP(ending=tail); STEP(writer=i) :: else fi;
  atomic{ tail=tail+1; wrote[i]=true; todo--; MAYDIE }; s=C_; ring(C_); s=P_; goto look;
close: s=C_; end_of(i); s=P_; STEP(waiting[P_]=0); tag[P_]=0;
absent: gone_[i]=true; goto out;
die: atomic{ dead[i]=true; gone_[i]=true };
out: atomic{ w=0; t=0; n=0; s=0; known=0; gone=0; fired=false; todo=0; bell[i]=false; park[i]=0 } }

#define TELL(x) atomic{ assert(!ends[x] && !plain[x]); ends[x]=true; told[x]=true }
proctype C(byte i){
  byte w, t, n, known, gone, h, r; bool fired; byte s=C_;
end_turn: atomic{ if :: i==4 || gone_[i-1] fi; if :: skip :: goto absent fi };
  attach(C_);
#ifndef NORING
  s=P_; ring(P_); s=C_;
#endif
  h=head;
#ifndef TAGONLY
  STEP(known=writer); /* a stream without an end: its producer may have been reaped before we came */
#endif
look:
  if :: tail!=h -> r=rec[h%SZ];
        if :: tag[P_]!=known -> meet(P_) :: else fi;
#ifndef STALE
        /* an end that is told now, or was the last one told, is not told again by the death */
        if :: r<10 && gone!=0 && (gone==r || gone==ended) -> gone=0 :: else fi;
#endif
        if :: r>=10 || r==ended -> atomic{ rec[h%SZ]=0; h++; head=h; r=0; MAYDIE }; s=P_; ring(P_); s=C_
           :: r<10 && r!=ended -> STEP(ended=r); atomic{ rec[h%SZ]=0; h++; head=h; MAYDIE };
              s=P_; ring(P_); s=C_; TELL(r); r=0
        fi; goto look
     :: tail==h
  fi;
  if :: tag[P_]!=known -> meet(P_); goto look :: else fi;
  if :: gone!=0 -> goto news :: else fi;
#ifdef EARLY
  meet(P_); SET;
#else
  SET; meet(P_);
#endif
  if :: gone!=0 || tail!=h -> STEP(waiting[C_]=0); goto look :: else fi;
end_asleep: if :: atomic{ bell[i] -> bell[i]=false; MAYDIE } :: atomic{ known!=0 && dead[known] -> fired=true }; meet(P_) fi;
  STEP(waiting[C_]=0); goto look;
news: /* the ring was drained and `gone` died */
  r=gone; gone=0;
  if :: r==ended -> r=0; goto look :: else fi;
#ifdef CACHED
  if :: tail!=h -> gone=r; r=0; goto look :: else fi; w=writer;
#else
  /* drained, by a look after the one at `writer`: an end published in between is not missed */
  w=writer; if :: tail!=h -> gone=r; w=0; r=0; goto look :: else fi;
#endif
#ifndef TAGONLY
  /* the stream without an end is of one before `r`: then that is told first */
  t=tag[P_];
  if :: w!=0 && w!=r && w!=t && w!=ended && tail==h && ending!=h -> gone=r; r=w :: else fi; t=0;
#endif
  if :: w==r && ending!=h -> w=0; STEP(ended=r); TELL(r)
     :: else -> w=0; atomic{ assert(!ends[r]); plain[r]=true; told[r]=true }
  fi; r=0; goto look;
absent: gone_[i]=true; goto out;
die: atomic{ dead[i]=true; gone_[i]=true };
out: atomic{ w=0; t=0; n=0; s=0; known=0; gone=0; fired=false; h=0; r=0; bell[i]=false; park[i]=0 } }

init{ atomic{
  run P(1,M); run P(3,M);
#ifdef P3
  run P(2,M);
#else
  gone_[2]=true;
#endif
#ifdef C2
  run C(4);
#else
  gone_[4]=true;
#endif
  run C(5) } }
#define LIVE(x) (in[x] && !gone_[x])
#define ANYC (LIVE(4) || LIVE(5))
#define ANYP (LIVE(1) || LIVE(2) || LIVE(3))
/* told, or it was killed between noting an end and telling it */
#define KNOWN(x) (!wrote[x] || ends[x] || dead[4])
active proctype Mon(){
  timeout -> atomic{
  /* a consumer that lives has popped everything and knows the end of every stream */
  assert(!ANYC || (tail==head && !ANYP && KNOWN(1) && KNOWN(2) && KNOWN(3) && (writer==0 || writer==ended || ending==tail)));
  /* a producer that lives waits for room that nobody can make, and knows of the last death */
  assert(!ANYP || (tail-head>=CAP && (last[C_]==0 || told[last[C_]]))) }
}
