/* Judges the time stamps of a file's frames, so that one of them cannot move the table's time.
 *
 * A stamp that jumps, ahead or back, waits for the next two frames. It is believed if both of them
 * have moved the same way, at least half as far: ahead is silence or a step of the clock, and the
 * table's time goes on to it; back is a step, and the table's time goes on from where it is. If
 * they do not, the stamp is stray, and the table's time stays.
 *
 * A live capture needs none of this: its frames have flow time (clock.h). */
#include <stdlib.h>
#include <string.h>

#include "loop/reader.h"

#define NS_PER_S 1000000000ll
#define JUMP NS_PER_S             /* less is the disorder of a capture */
#define SILENCE (3600 * NS_PER_S) /* more is told as a step, or makes a stray stamp false */
#define ABSURD (365 * 24 * 3600 * NS_PER_S) /* not believed of the file's last frame alone */
#define BETTER 16
#define WITNESSES NR_STAMPS_WAITING
#define FRAME_ROOM (68u * 1024) /* no IP packet with its headers is longer */

enum verdict { WAITS, BELIEVED, STRAY };

int nr_stamps_create(struct nr_stamps *stamps) {
    stamps->bytes = malloc((size_t)WITNESSES * FRAME_ROOM);
    return stamps->bytes != NULL ? 0 : -1;
}

void nr_stamps_destroy(struct nr_stamps *stamps) {
    free(stamps->bytes);
}

/* Returns how far the frame is ahead of the table's time. */
static int64_t ahead_of(const nr_reader *r, const struct nr_frame *frame, int64_t lead) {
    return (int64_t)(frame->ts + (uint64_t)lead - nr_table_now(r->table));
}

/* Returns how many frames in a row, from the first, neither jump nor are the file's first. */
static uint32_t count_steady(const nr_reader *r, const struct nr_frame *frames, uint32_t count) {
    const uint64_t lead = (uint64_t)nr_table_lead(r->table);
    uint64_t now = nr_table_now(r->table);
    uint32_t n = 0;
    for (; n < count && now != 0; n++) {
        const uint64_t at = frames[n].ts + lead;
        if (at - now + JUMP > 2 * JUMP) {
            break;
        }
        now = at > now ? at : now;
    }
    return n;
}

/* Returns whether the witness has moved the same way as the frame, at least half as far. */
static bool bears_out(const nr_reader *r, int64_t ahead, const struct nr_frame *witness) {
    const int64_t other = ahead_of(r, witness, nr_table_lead(r->table));
    return ahead > 0 ? other >= ahead / 2 : other <= ahead / 2;
}

/* The file's first frame has no time before it. Its stamp is false if the next two are far
 * earlier. */
static enum verdict judge_first(nr_reader *r, struct nr_frame *frame, uint32_t later,
                                bool is_last) {
    if (later < WITNESSES) {
        return is_last ? BELIEVED : WAITS;
    }
    if ((int64_t)(frame->ts - frame[1].ts) > SILENCE &&
        (int64_t)(frame->ts - frame[2].ts) > SILENCE) {
        frame->ts = frame[1].ts;
        r->books.time_stray++;
    }
    return BELIEVED;
}

/* Judges a frame that `later` frames follow; `is_last`: no more will come. */
static enum verdict judge(nr_reader *r, struct nr_frame *frame, uint32_t later, bool is_last) {
    if (nr_table_now(r->table) == 0) {
        return judge_first(r, frame, later, is_last);
    }
    const int64_t ahead = ahead_of(r, frame, nr_table_lead(r->table));
    for (uint32_t n = 0; n < later && n < WITNESSES; n++) {
        if (!bears_out(r, ahead, &frame[1 + n])) {
            return STRAY;
        }
    }
    if (later >= WITNESSES) {
        return BELIEVED;
    }
    if (!is_last) {
        return WAITS;
    }
    return later > 0 || (ahead > 0 && ahead <= ABSURD) ? BELIEVED : STRAY;
}

/* Follows a jump that is believed. */
static void follow_jump(nr_reader *r, const struct nr_frame *frame) {
    if (nr_table_now(r->table) == 0) {
        return;
    }
    const int64_t lead = nr_table_lead(r->table);
    const int64_t ahead = ahead_of(r, frame, lead);
    if (ahead > SILENCE || ahead < -JUMP) {
        r->clock.steps++;
    }
    if (ahead < -JUMP) {
        r->stamps.past_lead = lead;
        r->stamps.has_stepped = true;
        nr_table_step(r->table, lead - ahead);
    }
}

/* Frames of two clocks may take turns: goes back to the other clock if the frame fits to it far
 * better. */
static bool return_to_clock(nr_reader *r, const struct nr_frame *frame) {
    const int64_t lead = nr_table_lead(r->table), ahead = ahead_of(r, frame, lead);
    if (!r->stamps.has_stepped ||
        llabs(ahead_of(r, frame, r->stamps.past_lead)) > llabs(ahead / BETTER)) {
        return false;
    }
    nr_table_step(r->table, r->stamps.past_lead);
    r->stamps.past_lead = lead;
    return true;
}

/* Accounts for a frame with a stray stamp, at the table's time. A false stamp is replaced. */
static void dissect_stray(nr_reader *r, struct nr_frame *frame) {
    const int64_t lead = nr_table_lead(r->table), ahead = ahead_of(r, frame, lead);
    r->books.time_stray++;
    if (ahead > SILENCE || ahead < -SILENCE) {
        frame->ts -= (uint64_t)ahead;
    } else if (ahead > 0) {
        nr_table_set_lead(r->table, lead - ahead);
    }
    nr_reader_dissect(r, frame, 1);
    nr_table_set_lead(r->table, lead);
}

/* Keeps the frames that wait, with copies of their bytes. */
static void keep_waiting(struct nr_stamps *stamps, const struct nr_frame *frames, uint32_t count) {
    for (uint32_t n = 0; n < count; n++) {
        struct nr_frame frame = frames[n];
        uint8_t *to = stamps->bytes + (size_t)n * FRAME_ROOM;
        frame.caplen = frame.caplen < FRAME_ROOM ? frame.caplen : FRAME_ROOM;
        if (to != frame.data && frame.caplen > 0) {
            memcpy(to, frame.data, frame.caplen);
        }
        frame.data = to;
        stamps->waiting[n] = frame;
    }
    stamps->count = count;
}

/* Accounts for the frames that need not wait, and returns how many those are. */
static uint32_t judge_frames(nr_reader *r, struct nr_frame *frames, uint32_t count, bool is_last) {
    uint32_t n = 0;
    while (n < count) {
        const uint32_t steady = count_steady(r, frames + n, count - n);
        if (steady > 0) {
            nr_reader_dissect(r, frames + n, steady);
            n += steady;
            continue;
        }
        if (return_to_clock(r, &frames[n])) {
            continue;
        }
        const enum verdict verdict = judge(r, &frames[n], count - n - 1, is_last);
        if (verdict == WAITS) {
            break;
        }
        if (verdict == BELIEVED) {
            follow_jump(r, &frames[n]);
            nr_reader_dissect(r, &frames[n], 1);
        } else {
            dissect_stray(r, &frames[n]);
        }
        n++;
    }
    return n;
}

static void judge_all(nr_reader *r, const struct nr_frame *frames, uint32_t count, bool is_last) {
    struct nr_frame all[WITNESSES + NR_BATCH];
    const uint32_t waited = r->stamps.count, sum = waited + count;
    memcpy(all, r->stamps.waiting, waited * sizeof *all);
    memcpy(all + waited, frames, count * sizeof *all);
    const uint32_t done = judge_frames(r, all, sum, is_last);
    keep_waiting(&r->stamps, all + done, sum - done);
}

void nr_stamps_dissect(nr_reader *r, const struct nr_frame *frames, uint32_t count) {
    if (r->stamps.count == 0 && count_steady(r, frames, count) == count) {
        nr_reader_dissect(r, frames, count);
    } else {
        judge_all(r, frames, count, false);
    }
}

void nr_stamps_settle(nr_reader *r) {
    if (r->stamps.count > 0) {
        judge_all(r, NULL, 0, true);
    }
}
