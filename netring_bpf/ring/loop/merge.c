/* Reads several files as one capture: lends their frames in the order of their times. */
#include <errno.h>
#include <stdlib.h>

#include "loop/reader.h"

/* Frames that a file has lent ahead of their turn. */
struct nr_ahead {
    uint32_t at, count;
    struct nr_frame frames[NR_BATCH];
};

int nr_merge_create(nr_reader *r) {
    if (r->ahead == NULL) {
        r->ahead = calloc(NR_MAX_SOURCES, sizeof *r->ahead);
    }
    return r->ahead != NULL ? 0 : -ENOMEM;
}

void nr_merge_destroy(nr_reader *r) {
    free(r->ahead);
}

/* Returns whether the file has a frame ahead; takes frames from it if it has not. */
static bool look_ahead(const nr_reader *r, int source) {
    struct nr_ahead *a = &r->ahead[source];
    if (a->at == a->count && !r->sources[source]->finished) {
        a->at = 0;
        a->count = r->sources[source]->ops->next(r->sources[source], a->frames, NR_BATCH);
    }
    return a->at < a->count;
}

uint32_t nr_merge_next(nr_reader *r, struct nr_frame *frames, uint32_t max) {
    uint32_t count = 0;
    const int sources = nr_reader_sources(r);
    while (count < max) {
        struct nr_ahead *first = NULL;
        for (int i = 0; i < sources; i++) {
            struct nr_ahead *a = &r->ahead[i];
            /* Taking frames may move those that the file has lent before. */
            if (a->at == a->count && !r->sources[i]->finished && count > 0) {
                return count;
            }
            if (look_ahead(r, i)) {
                first =
                    first == NULL || a->frames[a->at].ts < first->frames[first->at].ts ? a : first;
            } else if (!r->sources[i]->finished) {
                return 0; /* its next frame may be the earliest */
            }
        }
        if (first == NULL || first->frames[first->at].ts >= r->until) {
            break;
        }
        frames[count++] = first->frames[first->at++];
    }
    return count;
}

uint32_t nr_merge_held(const nr_reader *r, int source) {
    return r->ahead != NULL ? r->ahead[source].count - r->ahead[source].at : 0;
}

bool nr_merge_is_read(const nr_reader *r) {
    for (int i = 0; i < nr_reader_sources(r); i++) {
        const struct nr_ahead *a = r->ahead != NULL ? &r->ahead[i] : NULL;
        if (a != NULL && a->at < a->count ? a->frames[a->at].ts < r->until
                                          : !r->sources[i]->finished) {
            return false;
        }
    }
    return true;
}
