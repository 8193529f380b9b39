/* The borrow ledger, its signature file, the head that the backend remembers, and restarts
 * (borrow.md, "Persistence"). One process writes; it is killed, or the power is cut, between any
 * two steps; while it is down somebody may put older files in place, or none. To hold:
 *
 *   starts    it starts again, unless somebody touched the files;
 *   keeps     what it starts with has every borrow that was answered, touched or not.
 *
 * A file's content is the number of the ledger in it. A directory operation that was not synced may
 * be lost in a power cut, those of one file in order, those of the two files independently. What
 * was written and not synced may be torn then.
 *
 * With one of these defined the model must fail, so that it is known to have teeth (test_model.py):
 *   ANSWER_EARLY   answers before the head has moved
 *   NO_SYNC        does not sync the files before it renames them
 *   NO_NEXT        writes the files in place
 *   HEAD_FIRST     moves the head before the files are on disk
 *   REWRITE_NEXT   finishes a write that was cut off by writing the .next file itself anew
 *   NO_REWRITE     believes what it read, which a failed sync may have left in memory only */

#define NONE 0
#define TORN 50
#define RAW 100     /* + number: in memory only, torn after a power cut */
#define DROPPED 150 /* + number: likewise, and a sync will not change that: one failed before */
#define LAST 3  /* ledgers, numbered from 1 */
#define OPS 4   /* directory operations of a file that may be pending */
#define L 0
#define S 1

/* What a name and its .next hold after each pending operation: at 0 what is on disk, at n what the
 * running system sees. */
typedef file {
    byte main[OPS + 1];
    byte next[OPS + 1];
    byte n;
};
file f[2];

byte head = NONE;     /* what the backend remembers */
byte answered = NONE; /* newest ledger with an answered borrow */
byte current = NONE;  /* what the process has in memory */
byte newest = NONE;   /* the newest pair that was ever complete: what may be put back */
bool touched = false;
bool unsure = false; /* a sync of the folder failed: until it is changed a sync tells nothing */
byte i, j, loaded;

#define MAIN(x) f[x].main[f[x].n]
#define NEXT(x) f[x].next[f[x].n]
#define GOOD(v) ((v) != NONE && (v) != TORN)
#define NUMBER(v) ((v) > DROPPED -> (v) - DROPPED : ((v) > RAW -> (v) - RAW : (v)))

inline settle(x)
{
    f[x].main[0] = MAIN(x);
    f[x].next[0] = NEXT(x);
    for (i : 1 .. OPS) {
        f[x].main[i] = NONE;
        f[x].next[i] = NONE
    }
    f[x].n = 0;
    i = 0
}

/* A file system commits by itself now and then: here when so many operations are pending. */
inline push(x)
{
    if
    :: f[x].n == OPS -> settle(x)
    :: else
    fi;
    unsure = false;
    f[x].main[f[x].n + 1] = MAIN(x);
    f[x].next[f[x].n + 1] = NEXT(x);
    f[x].n++
}

/* open(O_CREAT | O_TRUNC) and write. A file that is there already is overwritten where it lies. */
inline write_next(x, v)
{
    if
    :: NEXT(x) == NONE ->
        push(x);
        NEXT(x) = RAW + v
    :: else ->
        j = NEXT(x);
        for (i : 0 .. f[x].n) {
            if
            :: f[x].next[i] == j -> f[x].next[i] = RAW + v
            :: else
            fi
        }
    fi;
    i = 0; j = 0
}

inline write_main(x, v)
{
    for (i : 0 .. f[x].n) {
        f[x].main[i] = RAW + v
    }
    i = 0
}

#define ON_DISK(v) ((v) > RAW && (v) < DROPPED -> (v) - RAW : (v))
inline sync_file(x)
{
    for (i : 0 .. f[x].n) {
        f[x].next[i] = ON_DISK(f[x].next[i]);
        f[x].main[i] = ON_DISK(f[x].main[i])
    }
    i = 0
}

/* The error is told once; from then on the system takes what it holds for written. */
#define LOST(v) ((v) > RAW && (v) < DROPPED -> (v) - RAW + DROPPED : (v))
inline fail_sync(x)
{
    for (i : 0 .. f[x].n) {
        f[x].next[i] = LOST(f[x].next[i])
    }
    i = 0
}

/* A file under a third name, synced, takes the place of .next. */
inline replace_next(x, v)
{
    push(x);
    NEXT(x) = v
}

inline rename(x)
{
    push(x);
    MAIN(x) = NEXT(x);
    NEXT(x) = NONE
}

inline sync_folder()
{
    if
    :: unsure
    :: else ->
        settle(L);
        settle(S)
    fi
}

/* The power is back: some of the operations made it to the disk. */
inline cut(x)
{
    do
    :: f[x].n > 0 ->
        f[x].main[f[x].n] = NONE;
        f[x].next[f[x].n] = NONE;
        f[x].n--
    :: break
    od;
    if
    :: MAIN(x) > RAW -> if :: MAIN(x) = NUMBER(MAIN(x)) :: MAIN(x) = TORN fi
    :: else
    fi;
    if
    :: NEXT(x) > RAW -> if :: NEXT(x) = NUMBER(NEXT(x)) :: NEXT(x) = TORN fi
    :: else
    fi;
    settle(x)
}

inline put(x, v)
{
    MAIN(x) = v;
    NEXT(x) = NONE;
    settle(x)
}

inline consider(l, s)
{
    if
    :: GOOD(l) && NUMBER(l) == NUMBER(s) && NUMBER(l) > loaded -> loaded = NUMBER(l)
    :: else
    fi
}

/* Before each step the process may end. */
#define STEP if :: skip :: goto killed :: goto power_cut fi

active proctype borrow()
{
start:
    skip;
    d_step {
        loaded = NONE;
        consider(MAIN(L), MAIN(S));
        consider(NEXT(L), MAIN(S));
        consider(MAIN(L), NEXT(S));
        consider(NEXT(L), NEXT(S))
    };
    if
    :: loaded == NONE ->
        if
        :: head == NONE && MAIN(L) == NONE && MAIN(S) == NONE -> skip /* nothing was promised yet */
        :: else -> goto refused
        fi
    :: else ->
        if
        :: loaded == head || loaded == head + 1 -> skip
        :: else -> goto refused
        fi
    fi;
    assert(loaded >= answered); /* keeps */
    current = loaded;
    if
    :: loaded == NONE -> goto running
    :: else
    fi;

    /* Roll forward: .next files of the pair that was chosen are put in place. */
#if defined(NO_REWRITE)
#elif defined(REWRITE_NEXT)
    if
    :: NUMBER(NEXT(L)) == loaded && NUMBER(MAIN(L)) != loaded ->
        STEP; write_next(L, loaded); STEP; sync_file(L)
    :: else
    fi;
    if
    :: NUMBER(NEXT(S)) == loaded && NUMBER(MAIN(S)) != loaded ->
        STEP; write_next(S, loaded); STEP; sync_file(S)
    :: else
    fi;
#else
    if
    :: NUMBER(NEXT(L)) == loaded && NUMBER(MAIN(L)) != loaded ->
        STEP; d_step { replace_next(L, loaded) }; STEP; d_step { sync_folder() }
    :: else
    fi;
    if
    :: NUMBER(NEXT(S)) == loaded && NUMBER(MAIN(S)) != loaded ->
        STEP; d_step { replace_next(S, loaded) }; STEP; d_step { sync_folder() }
    :: else
    fi;
#endif
    if
    :: NUMBER(NEXT(L)) == loaded && NUMBER(MAIN(L)) != loaded -> STEP; d_step { rename(L) }
    :: else -> if :: NEXT(L) != NONE -> STEP; d_step { push(L); NEXT(L) = NONE } :: else fi
    fi;
    if
    :: NUMBER(NEXT(S)) == loaded && NUMBER(MAIN(S)) != loaded -> STEP; d_step { rename(S) }
    :: else -> if :: NEXT(S) != NONE -> STEP; d_step { push(S); NEXT(S) = NONE } :: else fi
    fi;
    STEP;
    d_step { sync_folder() };
    if
    :: current == head + 1 -> goto write /* ahead: once more, and synced, before the head moves */
    :: else
    fi;

running:
    if
    :: current < LAST -> current = current + 1
    :: STEP; goto killed
    fi;
write:
#ifdef NO_REWRITE
    if
    :: loaded == current -> goto move
    :: else
    fi;
#endif
#ifdef HEAD_FIRST
    head = current;
#endif
#ifdef NO_NEXT
    STEP; d_step { write_main(L, current) };
    STEP; d_step { write_main(S, current) };
    STEP; d_step { sync_file(L) };
    STEP; d_step { sync_file(S) };
#else
    STEP; d_step { write_next(L, current) };
#ifndef NO_SYNC
    STEP;
    if
    :: skip
    :: d_step { fail_sync(L) }; goto killed /* what the system holds is not to be believed */
    fi;
    d_step { sync_file(L) };
#endif
    STEP; d_step { write_next(S, current) };
#ifndef NO_SYNC
    STEP;
    if
    :: skip
    :: d_step { fail_sync(S) }; goto killed
    fi;
    d_step { sync_file(S) };
#endif
    STEP; d_step { sync_folder() };
    STEP; d_step { rename(L) };
    STEP; d_step { rename(S) };
    STEP;
    if
    :: skip
    :: unsure = true; goto killed
    fi;
    d_step { sync_folder() };
#endif
    newest = (current > newest -> current : newest);
#ifdef NO_REWRITE
move:
#endif
#ifdef ANSWER_EARLY
    STEP;
    answered = current;
#endif
    STEP; /* the backend may be away: then it is tried again, and nothing else is written */
    head = current;
    STEP; /* … or its acknowledgement is lost */
    answered = current;
    loaded = NONE;
    goto running;

power_cut:
    unsure = false;
    atomic { cut(L) };
    atomic { cut(S) };
killed:
    current = NONE;
    loaded = NONE;
    if
    :: skip
    :: newest > NONE -> /* an older pair, or none, is put in place */
        touched = true;
        if
        :: d_step { put(L, NONE); put(S, NONE) }
        :: d_step { put(L, 1); put(S, 1) }
        :: newest > 1 -> d_step { put(L, newest - 1); put(S, newest - 1) }
        fi
    fi;
    goto start;

refused:
    assert(touched) /* starts */
}
