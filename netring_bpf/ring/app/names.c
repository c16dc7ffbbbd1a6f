/* The table of the names of addresses: see names.h. names_learn.c finds names in records. */
#include "app/names.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "app/names_internal.h"
#include "siphash.h"

enum {
    WAYS = 8,          /* of each set */
    TRIES = 100,       /* to enter a set, on the packet path */
    TRIES_LONG = 1000, /* with pauses of a millisecond, elsewhere */
    WITNESSES = 3      /* times in a row that bear out a jump of the table's time */
};

#define JUMP (UINT64_C(60) * 1000000000u) /* ns ahead; less is believed at once */

/* A name of an address, as one protocol tells it. */
struct entry {
    uint64_t hash; /* of the text; 0: the place is free */
    uint64_t first_ts;
    uint64_t last_ts;
    uint64_t until;
    uint64_t used; /* when somebody last asked for it, or told it */
    uint8_t address[16];
    uint8_t family;
    uint8_t source;
    uint16_t length;
    uint8_t text[NR_TEXT_MAX];
};

/* The name that an asker used last for an address. */
struct asked {
    uint64_t hash; /* of both addresses; 0: the place is free */
    uint64_t name; /* hash of the text */
    uint64_t until;
    uint64_t used;
};

struct name_set {
    uint32_t lock;
    struct entry entry[WAYS];
};

struct asked_set {
    uint32_t lock;
    struct asked asked[WAYS];
};

struct nr_names {
    uint64_t key[2];
    size_t mapped;
    uint32_t sets; /* of each kind; a power of two */
    struct name_set *names;
    struct asked_set *asked;
    uint64_t now;                  /* the table's time: see note_time() */
    uint64_t jump_from, jump_last; /* the earliest and the latest time beyond a jump */
    uint32_t jump_count;           /* such times in a row */
    uint64_t learned, replaced, missed, filled;
};

/* -- life -- */

nr_names *nr_names_create(uint64_t size, const uint8_t key[16]) {
    const size_t each = sizeof(struct name_set) + sizeof(struct asked_set);
    nr_names *names = calloc(1, sizeof *names);
    if (names == NULL) {
        return NULL;
    }
    names->sets = 1;
    while ((uint64_t)names->sets * 2 * each <= size && names->sets < UINT32_C(1) << 24) {
        names->sets *= 2;
    }
    memcpy(names->key, key, sizeof names->key);
    names->mapped = names->sets * each;
    void *at = mmap(NULL, names->mapped, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        free(names);
        return NULL;
    }
    names->names = at;
    names->asked = (void *)(names->names + names->sets);
    return names;
}

void nr_names_destroy(nr_names *names) {
    if (names != NULL) {
        munmap(names->names, names->mapped);
        free(names);
    }
}

/* -- sets -- */

static void count(uint64_t *counter) {
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static bool enter(uint32_t *lock) {
    uint32_t is_free = 0;
    return __atomic_compare_exchange_n(lock, &is_free, 1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* Enters a set, unless others keep it for longer than a look takes. */
static bool try_enter(nr_names *names, uint32_t *lock) {
    for (int i = 0; i < TRIES; i++) {
        if (nr_load_relaxed(lock) == 0 && enter(lock)) {
            return true;
        }
    }
    count(&names->missed);
    return false;
}

static void leave(uint32_t *lock) {
    nr_store_release(lock, 0);
}

static void move_time(nr_names *names, uint64_t ts) {
    uint64_t now = nr_load_relaxed(&names->now);
    while (now < ts && !__atomic_compare_exchange_n(&names->now, &now, ts, true, __ATOMIC_RELAXED,
                                                    __ATOMIC_RELAXED)) {
    }
}

/* Follows the time of the packets that tell names. A jump waits until later packets have borne it
 * out: names end by this time, and one packet with a false stamp must not end them. Threads that
 * disturb each other here delay it at most. */
static void note_time(nr_names *names, uint64_t ts) {
    const uint64_t now = nr_load_relaxed(&names->now);
    const uint32_t count = nr_load_relaxed(&names->jump_count);
    if (ts <= now || (now != 0 && ts - now <= JUMP)) {
        if (count > 0) {
            nr_store_relaxed(&names->jump_count, 0);
        }
        move_time(names, ts);
        return;
    }
    const uint64_t from = nr_load_relaxed(&names->jump_from);
    if (count > 0 && ts == nr_load_relaxed(&names->jump_last)) {
        return; /* of the same packet */
    }
    const uint64_t least = count == 0 || ts < from ? ts : from;
    nr_store_relaxed(&names->jump_last, ts);
    nr_store_relaxed(&names->jump_from, least);
    nr_store_relaxed(&names->jump_count, count + 1);
    if (count + 1 >= WITNESSES) {
        nr_store_relaxed(&names->jump_count, 0);
        move_time(names, least);
    }
}

static size_t size_of(uint8_t family) {
    return family == 4 ? 4 : 16;
}

static void copy_address(uint64_t words[2], uint8_t family, const uint8_t *address) {
    words[0] = words[1] = 0;
    memcpy(words, address, size_of(family));
}

/* Hashes are never 0. */
static uint64_t hash_of(const nr_names *names, const uint64_t *words, size_t n) {
    return nr_siphash13(names->key, words, n) | 1;
}

static uint64_t hash_address(const nr_names *names, uint8_t family, const uint8_t *address) {
    uint64_t words[3] = {0, 0, family};
    copy_address(words, family, address);
    return hash_of(names, words, 3);
}

static uint64_t hash_both(const nr_names *names, uint8_t family, const uint8_t *asker,
                          const uint8_t *address) {
    uint64_t words[5] = {0, 0, 0, 0, family};
    copy_address(words, family, asker);
    copy_address(words + 2, family, address);
    return hash_of(names, words, 5);
}

static uint64_t hash_text(const nr_names *names, const uint8_t *text, uint32_t length) {
    uint64_t words[NR_TEXT_MAX / 8 + 1];
    const size_t n = length / 8 + 1;
    words[n - 1] = 0;
    memcpy(words, text, length);
    return hash_of(names, words, n) ^ (uint64_t)length << 32;
}

static struct name_set *set_of(const nr_names *names, uint64_t hash) {
    return &names->names[hash >> 32 & (names->sets - 1)];
}

static struct asked_set *asked_set_of(const nr_names *names, uint64_t hash) {
    return &names->asked[hash >> 32 & (names->sets - 1)];
}

static bool is_of(const struct entry *e, uint8_t family, const uint8_t *address) {
    return e->hash != 0 && e->family == family && memcmp(e->address, address, size_of(family)) == 0;
}

/* -- learning -- */

/* Returns the entry for this name, or the place that it gets. */
static struct entry *place_for(nr_names *names, struct name_set *set,
                               const struct nr_told_name *told, uint64_t hash) {
    struct entry *place = &set->entry[0];
    for (int i = 0; i < WAYS; i++) {
        struct entry *e = &set->entry[i];
        if (is_of(e, told->family, told->address) && e->hash == hash && e->source == told->source) {
            return e;
        }
        const bool is_better = place->hash != 0 && (e->hash == 0 || e->used < place->used);
        place = is_better ? e : place;
    }
    if (place->hash == 0) {
        count(&names->filled);
    } else if (place->until > told->ts) {
        count(&names->replaced);
    }
    memset(place, 0, offsetof(struct entry, text));
    memcpy(place->address, told->address, size_of(told->family));
    place->hash = hash;
    place->family = told->family;
    place->source = told->source;
    place->length = told->length;
    memcpy(place->text, told->text, told->length);
    place->first_ts = told->ts;
    return place;
}

static void learn_asked(nr_names *names, const struct nr_told_name *told, uint64_t name) {
    const uint64_t hash = hash_both(names, told->family, told->asker, told->address);
    struct asked_set *set = asked_set_of(names, hash);
    if (!try_enter(names, &set->lock)) {
        return;
    }
    struct asked *place = &set->asked[0];
    for (int i = 0; i < WAYS; i++) {
        struct asked *a = &set->asked[i];
        if (a->hash == hash) {
            place = a;
            break;
        }
        place = place->hash != 0 && (a->hash == 0 || a->used < place->used) ? a : place;
    }
    *place = (struct asked){hash, name, told->until, told->ts};
    leave(&set->lock);
}

void nr_names_take(nr_names *names, const struct nr_told_name *told) {
    const uint64_t hash = hash_text(names, told->text, told->length);
    struct name_set *set = set_of(names, hash_address(names, told->family, told->address));
    note_time(names, told->ts);
    if (!try_enter(names, &set->lock)) {
        return;
    }
    struct entry *e = place_for(names, set, told, hash);
    e->last_ts = nr_max_u64(e->last_ts, told->ts);
    e->until = nr_max_u64(e->until, told->until);
    e->used = nr_max_u64(e->used, told->ts);
    leave(&set->lock);
    count(&names->learned);
    if (told->asker != NULL) {
        learn_asked(names, told, hash);
    }
}

/* -- looking up -- */

/* Returns the hash of the name that this asker used last; 0: none. */
static uint64_t name_asked(nr_names *names, uint8_t family, const uint8_t *asker,
                           const uint8_t *address, uint64_t ts) {
    const uint64_t hash = hash_both(names, family, asker, address);
    struct asked_set *set = asked_set_of(names, hash);
    uint64_t name = 0;
    if (!try_enter(names, &set->lock)) {
        return 0;
    }
    for (int i = 0; i < WAYS; i++) {
        struct asked *a = &set->asked[i];
        if (a->hash == hash && a->until >= ts) {
            a->used = nr_max_u64(a->used, ts);
            name = a->name;
        }
    }
    leave(&set->lock);
    return name;
}

/* Returns whether `e` answers better than `best`: by the name that was asked for, else the latest.
 */
static bool is_better(const struct entry *e, const struct entry *best, uint64_t wanted) {
    if (best == NULL) {
        return true;
    }
    if ((e->hash == wanted) != (best->hash == wanted)) {
        return e->hash == wanted;
    }
    return e->last_ts > best->last_ts;
}

bool nr_names_find(nr_names *names, uint8_t family, const uint8_t *asker, const uint8_t *address,
                   uint64_t ts, struct nr_name *name) {
    struct name_set *set = set_of(names, hash_address(names, family, address));
    struct entry *best = NULL;
    const uint64_t wanted = asker != NULL ? name_asked(names, family, asker, address, ts) : 0;
    if (!try_enter(names, &set->lock)) {
        return false;
    }
    for (int i = 0; i < WAYS; i++) {
        struct entry *e = &set->entry[i];
        if (is_of(e, family, address) && e->until >= ts && is_better(e, best, wanted)) {
            best = e;
        }
    }
    if (best != NULL) {
        best->used = nr_max_u64(best->used, ts);
        name->source = best->source;
        name->length = best->length;
        memcpy(name->text, best->text, best->length);
    }
    leave(&set->lock);
    return best != NULL;
}

/* -- for Python -- */

/* Returns false if the set stays taken: in a forked child, by a thread that it does not have. */
static bool enter_at_last(uint32_t *lock) {
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < TRIES_LONG; i++) {
        if (enter(lock)) {
            return true;
        }
        if (i >= TRIES) {
            (void)nanosleep(&pause, NULL);
        }
    }
    return false;
}

static void insert(nr_address_name *found, uint32_t n, uint32_t max, const struct entry *e) {
    uint32_t at = n < max ? n : max;
    while (at > 0 && found[at - 1].last_ts < e->last_ts) {
        at--;
    }
    if (at == max) {
        return;
    }
    const uint32_t behind = (n < max ? n : max - 1) - at;
    memmove(&found[at + 1], &found[at], behind * sizeof *found);
    found[at] = (nr_address_name){
        .first_ts = e->first_ts, .last_ts = e->last_ts, .source = e->source, .size = e->length};
    memcpy(found[at].text, e->text, e->length);
}

uint32_t nr_names_of(nr_names *names, uint8_t family, const uint8_t *address,
                     nr_address_name *found, uint32_t max) {
    struct name_set *set = set_of(names, hash_address(names, family, address));
    const uint64_t now = nr_load_relaxed(&names->now);
    uint32_t n = 0;
    if (!enter_at_last(&set->lock)) {
        return 0;
    }
    for (int i = 0; i < WAYS; i++) {
        const struct entry *e = &set->entry[i];
        if (is_of(e, family, address) && e->until >= now) {
            insert(found, n++, max, e);
        }
    }
    leave(&set->lock);
    return n < max ? n : max;
}

void nr_names_account(nr_names *names, nr_names_statistics *statistics) {
    *statistics = (nr_names_statistics){
        .learned = nr_load_relaxed(&names->learned),
        .replaced = nr_load_relaxed(&names->replaced),
        .missed = nr_load_relaxed(&names->missed),
        .capacity = (uint64_t)names->sets * WAYS,
        .names = nr_load_relaxed(&names->filled),
    };
}

uint32_t nr_names_ask(nr_names *names, uint8_t family, const uint8_t *asker, const uint8_t *address,
                      uint64_t ts, nr_address_name *found) {
    struct nr_name name;
    if (!nr_names_find(names, family, asker, address, ts, &name)) {
        return 0;
    }
    *found = (nr_address_name){.source = name.source, .size = name.length};
    memcpy(found->text, name.text, name.length);
    return name.length;
}
