/* Reads packets from a pipe in one thread while others take the books and stop the reader, for
 * ThreadSanitizer. Meanwhile it gets a second pipe. The reader is destroyed once all are out. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop/reader.h"

enum { LENGTH = 60, MOST = 64, BUFFER = MOST * 65576 };

struct round {
    nr_reader *reader;
    int pipes[2][2];
    uint64_t read;
    bool stopped;
};

static void *read_packets(void *argument) {
    struct round *round = argument;
    static uint8_t buffer[BUFFER];
    nr_packet packets[MOST];
    nr_block_span span;
    int rc;
    do {
        rc = nr_reader_packets(round->reader, buffer, BUFFER, packets, MOST, 1000);
        round->read += rc > 0 ? (uint64_t)rc : 0;
        rc = rc == 0 ? nr_reader_blocks(round->reader, buffer, BUFFER, MOST, &span, 1000) : rc;
    } while (rc > 0 || !nr_load_acquire(&round->stopped));
    return NULL;
}

static void *take_books(void *argument) {
    struct round *round = argument;
    nr_statistics books;
    uint64_t before = 0;
    while (!nr_load_acquire(&round->stopped)) {
        nr_reader_statistics(round->reader, &books);
        if (books.received < before || books.received != books.handed_out) {
            abort();
        }
        before = books.received;
        (void)nr_reader_flow_time(round->reader);
    }
    return NULL;
}

static void open_pipe(const struct round *round, const int *ends) {
    const uint32_t head[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1};
    if (write(ends[1], head, sizeof head) != (ssize_t)sizeof head ||
        nr_reader_add_savefile(round->reader, ends[0]) < 0) {
        abort();
    }
}

static void put_packets(int fd, int count) {
    uint8_t record[16 + LENGTH] = {0};
    const uint32_t length = LENGTH;
    memcpy(record + 8, &length, 4);
    memcpy(record + 12, &length, 4);
    for (int i = 0; i < count; i++) {
        if (write(fd, record, sizeof record) != (ssize_t)sizeof record) {
            abort();
        }
    }
}

static void run_round(int number) {
    const nr_flow_options options = {.fragment_slots = 4, .max_flows = 64, .event_slots = 1024};
    struct round round = {.reader = nr_reader_create(&options)};
    pthread_t threads[3];
    if (round.reader == NULL || pipe(round.pipes[0]) != 0 || pipe(round.pipes[1]) != 0) {
        abort();
    }
    open_pipe(&round, round.pipes[0]);
    pthread_create(&threads[0], NULL, read_packets, &round);
    pthread_create(&threads[1], NULL, take_books, &round);
    pthread_create(&threads[2], NULL, take_books, &round);
    put_packets(round.pipes[0][1], number % 64);
    open_pipe(&round, round.pipes[1]);
    put_packets(round.pipes[1][1], number % 64);
    usleep((useconds_t)(number % 7) * 300);
    if (nr_reader_stop(round.reader) != 0) {
        abort();
    }
    nr_store_release(&round.stopped, true);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    nr_reader_destroy(round.reader);
    for (int i = 0; i < 4; i++) {
        close(round.pipes[i / 2][i % 2]);
    }
}

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 10;
    for (int i = 0; i < rounds; i++) {
        run_round(i);
    }
    puts("right");
    return 0;
}
