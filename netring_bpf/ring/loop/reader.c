/* Creates, configures and destroys a reader, and keeps its books.
 *
 * Nothing is allocated on the packet path, and no lock is taken: the books reach other
 * threads through a snapshot under a sequence count. */
#include "loop/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dissect/cursor.h"

/* -- life -- */

nr_reader *nr_reader_create(const nr_flow_options *options) {
    nr_reader *r = NULL;
    /* The hand-off inside is aligned to cache lines. */
    if (posix_memalign((void **)&r, 64, sizeof *r) != 0) {
        errno = ENOMEM;
        return NULL;
    }
    memset(r, 0, sizeof *r);
    r->finite = true;
    r->until = UINT64_MAX;
    r->nap_ns = UINT64_MAX;
    r->clock.offset = r->clock.wall = nr_wall_offset();
    r->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int no_bell = r->bell_fd < 0 ? errno : 0;
    r->fds[0] = (struct pollfd){.fd = r->bell_fd, .events = POLLIN};
    const int rc = nr_handoff_create(&r->handoff, options->event_slots, nr_event_size(options),
                                     nr_events_per_frame(&options->decode) * NR_RECORD_SIZE);
    r->table = nr_table_create(options, &r->handoff);
    r->fragments =
        nr_fragments_create(options->fragment_slots, options->fragment_ns, options->hash_key);
    memcpy(r->hash_key, options->hash_key, sizeof r->hash_key);
    r->decode = options->decode;
    nr_set_tunnel_bits(&r->decode);
    r->id_by_frame = options->id_by_frame != 0;
    r->reassembled = options->reassembled != 0;
    const int no_stamps = nr_stamps_create(&r->stamps);
    if (r->bell_fd < 0 || rc != 0 || r->table == NULL || r->fragments == NULL || no_stamps != 0) {
        nr_reader_destroy(r);
        errno = no_bell != 0 ? no_bell : rc != 0 ? -rc : ENOMEM;
        return NULL;
    }
    return r;
}

void nr_reader_destroy(nr_reader *r) {
    for (int i = 0; i < r->source_count; i++) {
        r->sources[i]->ops->destroy(r->sources[i]);
    }
    nr_merge_destroy(r);
    nr_table_destroy(r->table);
    nr_fragments_destroy(r->fragments);
    nr_stamps_destroy(&r->stamps);
    nr_handoff_destroy(&r->handoff);
    if (r->bell_fd >= 0) {
        close(r->bell_fd);
    }
    free(r);
}

void nr_reader_abandon(nr_reader *r) {
    for (int i = 0; i < r->source_count; i++) {
        r->sources[i]->inherited = true;
    }
    nr_reader_destroy(r);
}

/* Wakes the reader's thread. */
static int ring_bell(const nr_reader *r) {
    const uint64_t one = 1;
    return write(r->bell_fd, &one, sizeof one) == (ssize_t)sizeof one ? 0 : -errno;
}

/* The reader's thread may be running: it is woken, and takes the source up. */
static int keep_source(nr_reader *r, int rc, struct nr_source *source) {
    const int at = r->source_count;
    if (rc != 0) {
        return rc;
    }
    source->clock = &r->clock;
    if (!source->finite && r->finite) {
        r->finite = false;
    }
    if (source->nap_ns < nr_load_relaxed(&r->nap_ns)) {
        nr_store_relaxed(&r->nap_ns, source->nap_ns);
    }
    r->sources[at] = source;
    r->fds[1 + at] = (struct pollfd){.fd = source->fd, .events = POLLIN};
    nr_store_release(&r->source_count, at + 1);
    (void)ring_bell(r); /* it may be waiting for the others */
    return at;
}

int nr_reader_add_xsk(nr_reader *r, const nr_xsk_options *options) {
    struct nr_source *source = NULL;
    if (r->source_count == NR_MAX_SOURCES) {
        return -E2BIG;
    }
    const int rc = nr_xsk_create(options, &source);
    return keep_source(r, rc, source);
}

int nr_reader_add_tpacket(nr_reader *r, const nr_tpacket_options *options) {
    struct nr_source *source = NULL;
    if (r->source_count == NR_MAX_SOURCES) {
        return -E2BIG;
    }
    const int rc = nr_tpacket_create(options, &source);
    return keep_source(r, rc, source);
}

int nr_reader_add_replay(nr_reader *r, const uint8_t *records, uint64_t size) {
    struct nr_source *source = NULL;
    if (r->source_count == NR_MAX_SOURCES) {
        return -E2BIG;
    }
    const int rc = nr_replay_create(records, size, &source);
    return keep_source(r, rc, source);
}

int nr_reader_add_savefile(nr_reader *r, int fd) {
    struct nr_source *source = NULL;
    if (r->source_count == NR_MAX_SOURCES) {
        return -E2BIG;
    }
    const int rc = nr_savefile_create(fd, &source);
    return keep_source(r, rc, source);
}

int nr_reader_ask_filters(nr_reader *r, int source) {
    return nr_savefile_ask(r->sources[source]);
}

int nr_reader_ask_links(nr_reader *r, int source) {
    return nr_savefile_ask_links(r->sources[source]);
}

int nr_reader_asks_unread(const nr_reader *r, int source) {
    return nr_savefile_asks_unread(r->sources[source]);
}

int nr_reader_asking(const nr_reader *r, uint32_t *dlt, uint32_t *exact) {
    for (int i = 0; i < nr_reader_sources(r); i++) {
        if (r->sources[i]->asks) {
            *dlt = nr_savefile_asked(r->sources[i], exact);
            return i;
        }
    }
    return -1;
}

int nr_reader_replace_savefile(nr_reader *r, int at, int fd) {
    struct nr_source *source = NULL, *old = r->sources[at];
    const int rc = nr_savefile_create(fd, &source);
    if (rc != 0) {
        return rc;
    }
    r->past_frames += old->file_frames;
    r->past_filtered += old->file_filtered;
    r->past_overlong += old->file_overlong;
    old->ops->destroy(old);
    source->clock = &r->clock;
    r->sources[at] = source;
    r->fds[1 + at] = (struct pollfd){.fd = source->fd, .events = POLLIN};
    return at;
}

int nr_reader_source_is_read(const nr_reader *r, int source) {
    return r->sources[source]->finished && nr_merge_held(r, source) == 0;
}

int nr_reader_read_until(nr_reader *r, uint64_t ts) {
    r->until = ts;
    return nr_merge_create(r);
}

int nr_reader_filter_savefile(nr_reader *r, int source, uint32_t dlt,
                              const nr_filter_program *program, int quick) {
    return nr_savefile_filter(r->sources[source], dlt, program, quick);
}

void nr_reader_savefile_state(const nr_reader *r, int source, nr_savefile_state *state) {
    r->sources[source]->ops->file_state(r->sources[source], state);
}

uint64_t nr_reader_savefile_offset(const nr_reader *r, int source) {
    return nr_load_relaxed(&r->sources[source]->file_offset);
}

int nr_reader_describe_interface(const nr_reader *r, int source, uint32_t number,
                                 nr_interface_description *description) {
    return nr_savefile_describe(r->sources[source], number, description);
}

void nr_reader_set_live(nr_reader *r, int source) {
    r->sources[source]->live = true;
}

int nr_reader_source_fd(const nr_reader *r, int source) {
    return r->sources[source]->fd;
}

int nr_reader_source_zero_copy(const nr_reader *r, int source) {
    return r->sources[source]->zero_copy;
}

int nr_reader_source_huge_pages(const nr_reader *r, int source) {
    return r->sources[source]->huge_pages;
}

int nr_reader_source_napi_id(const nr_reader *r, int source) {
    int id = 0;
    socklen_t length = sizeof id;
    const int fd = r->sources[source]->fd;
    return getsockopt(fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, &id, &length) == 0 ? id : 0;
}

int nr_reader_set_busy_poll(nr_reader *r, int source, uint32_t microseconds, uint32_t budget) {
    const int rc = nr_xsk_set_busy_poll(r->sources[source], microseconds, budget);
    r->busy_ns = nr_max_u64(r->busy_ns, r->sources[source]->busy_ns);
    return rc;
}

int nr_reader_make_fanout(nr_reader *r, int source) {
    return nr_fanout_make(r->sources[source]->fd);
}

int nr_reader_join_fanout(nr_reader *r, int source, int group) {
    return nr_fanout_join(r->sources[source]->fd, group);
}

static int set_filter(nr_reader *r, const nr_bpf_insn *insns, uint32_t count, int program_fd) {
    int rc = 0;
    for (int i = 0; i < r->source_count && rc == 0; i++) {
        struct nr_source *source = r->sources[i];
        if (source->ops->set_filter != NULL) {
            rc = source->ops->set_filter(source, insns, count, program_fd);
        }
    }
    return rc;
}

int nr_reader_set_filter(nr_reader *r, const nr_bpf_insn *insns, uint32_t count) {
    return set_filter(r, insns, count, -1);
}

int nr_reader_set_filter_program(nr_reader *r, int program_fd) {
    return set_filter(r, NULL, 0, program_fd);
}

void nr_reader_set_snaplen(nr_reader *r, uint32_t snaplen) {
    for (int i = 0; i < r->source_count; i++) {
        if (r->sources[i]->ops->set_snaplen != NULL) {
            r->sources[i]->ops->set_snaplen(r->sources[i], snaplen);
        }
    }
}

int nr_reader_stop(nr_reader *r) {
    nr_store_release(&r->stopping, true);
    return ring_bell(r);
}

uint32_t nr_reader_flush(nr_reader *r) {
    const uint32_t left = nr_reader_end_waiting(r) ? nr_table_flush(r->table) : 1;
    nr_handoff_publish(&r->handoff);
    nr_reader_account(r);
    nr_reader_publish_books(r);
    return left;
}

void nr_reader_discard(nr_reader *r) {
    r->handoff.lost = r->handoff.produced - nr_load_acquire(&r->handoff.tail);
    nr_reader_publish_books(r);
}

uint64_t nr_reader_flow_time(const nr_reader *r) {
    return nr_flow_time(&r->clock, nr_monotonic_ns());
}

int nr_reader_event_fd(const nr_reader *r) {
    return r->handoff.event_fd;
}

uint32_t nr_reader_event_size(const nr_reader *r) {
    return r->handoff.slot_size;
}

uint32_t nr_reader_take(nr_reader *r, void *events, uint32_t max, uint32_t size, uint32_t *used) {
    const uint32_t count = nr_handoff_take(&r->handoff, events, max, size, used);
    if (NR_UNLIKELY(nr_table_has_interval(r->table))) {
        nr_handoff_ring(&r->handoff); /* which the look for events has silenced */
    }
    return count;
}

int nr_reader_take_interval(nr_reader *r, nr_interval_span *span) {
    return nr_table_take_interval(r->table, span);
}

int nr_reader_awaits_interval(const nr_reader *r) {
    return nr_table_has_interval(r->table) && nr_handoff_until_held(&r->handoff) == 0;
}

void nr_reader_take_last_interval(nr_reader *r, nr_interval_span *span) {
    nr_table_take_last_interval(r->table, span);
}

int nr_reader_lacks_crypto(const nr_reader *r) {
    return nr_table_lacks_crypto(r->table);
}

/* -- books -- */

void nr_reader_account(nr_reader *r) {
    nr_statistics *b = &r->books;
    const int sources = nr_reader_sources(r);
    b->xsk_rx_dropped = b->xsk_rx_ring_full = b->xsk_fill_ring_empty = 0;
    b->tp_packets = b->tp_drops = b->in_ring = 0;
    b->file_frames = r->past_frames;
    b->file_filtered = r->past_filtered;
    b->file_overlong = r->past_overlong;
    for (int i = 0; i < sources; i++) {
        struct nr_source *source = r->sources[i];
        source->ops->account(source);
        b->xsk_rx_dropped += source->rx_dropped;
        b->xsk_rx_ring_full += source->rx_ring_full;
        b->xsk_fill_ring_empty += source->fill_ring_empty;
        b->tp_packets += source->tp_packets;
        b->tp_drops += source->tp_drops;
        b->file_frames += source->file_frames - nr_merge_held(r, i);
        b->file_filtered += source->file_filtered;
        b->file_overlong += source->file_overlong;
        b->in_ring += source->ops->in_ring(source);
    }
}

void nr_reader_publish_books(nr_reader *r) {
    uint64_t words[NR_BOOK_WORDS];
    r->unpublished = false;
    nr_table_account(r->table, &r->books);
    r->books.fragment_overlaps = nr_fragments_overlaps(r->fragments);
    r->books.time_step = r->clock.steps;
    r->books.events_produced = r->handoff.produced;
    r->books.events_lost = r->handoff.lost;
    memcpy(words, &r->books, sizeof words);
    nr_store_relaxed(&r->sequence, r->sequence + 1);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (size_t i = 0; i < NR_BOOK_WORDS; i++) {
        nr_store_relaxed(&r->snapshot[i], words[i]);
    }
    nr_store_release(&r->sequence, r->sequence + 1);
}

void nr_reader_statistics(nr_reader *r, nr_statistics *statistics) {
    uint64_t words[NR_BOOK_WORDS];
    uint32_t before;
    do {
        before = nr_load_acquire(&r->sequence);
        for (size_t i = 0; i < NR_BOOK_WORDS; i++) {
            words[i] = nr_load_relaxed(&r->snapshot[i]);
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (before & 1 || before != nr_load_relaxed(&r->sequence));
    memcpy(statistics, words, sizeof words);
    statistics->events_taken = nr_load_relaxed(&r->handoff.tail);
    /* The events that were taken may be newer than the snapshot. */
    statistics->events_produced =
        nr_max_u64(statistics->events_produced, statistics->events_taken + statistics->events_lost);
}
