/* Reads flows from its input, piece by piece, and prints their exchanges: a small driver of the
 * parsers of HTTP, SSH, MQTT, STARTTLS and of labels.
 *
 * Commands: 'N' and two ports begin a flow; 'O' and 'R', a length and bytes are a piece of the
 * originator or of the responder; 'o' and 'r' are their ends; 'D' and 'd' are datagrams; '.' ends
 * the flow. Numbers are in host byte order. */
#include <stdio.h>
#include <stdlib.h>

#include "app/parser.h"

enum { KEPT_MAX = 16384, SIDE_MAX = 1 << 22, ASKED_MAX = 64 };

static nr_app_parser *const parsers[] = {nr_http_parse, nr_ssh_parse, nr_mqtt_parse,
                                         nr_starttls_parse, nr_label_parse};
enum { PARSERS = sizeof parsers / sizeof *parsers };

struct side {
    nr_app_parser *parser;  /* NULL: any */
    nr_app_parser *chunked; /* the one behind the chunks */
    uint32_t length, needs;
    uint64_t skip;
    bool is_done, is_ended;
    uint8_t bytes[SIDE_MAX];
};

static struct side sides[2];
static struct {
    uint8_t protocol;
    uint32_t pair;
    struct nr_record record;
} asked[ASKED_MAX];
static uint32_t asked_count, note;
static uint16_t ports[2];
static uint8_t carrier;

static void check(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "sides_parse: %s\n", what);
        abort();
    }
}

static void print_record(const uint8_t *bytes, uint32_t size) {
    struct nr_field field;
    uint32_t at = 0;
    while (nr_record_next(bytes, size, &at, &field)) {
        printf(" %u:", field.field);
        for (uint32_t i = 0; i < field.length; i++) {
            printf("%02x", field.value[i]);
        }
    }
    check(at == size, "a record has bytes behind its fields");
}

static void print_exchange(uint8_t protocol, const struct nr_record *one,
                           const struct nr_record *other) {
    printf("%u", protocol);
    if (carrier != 0) {
        printf("<%u", carrier);
    }
    print_record(one->bytes, one->size);
    if (other != NULL) {
        printf(" |");
        print_record(other->bytes, other->size);
    }
    printf("\n");
}

static void take_answer(const struct nr_message *message) {
    static const struct nr_record none;
    for (uint32_t i = 0; i < asked_count; i++) {
        if (asked[i].pair == message->pair && asked[i].protocol == message->protocol) {
            print_exchange(message->protocol, &asked[i].record, &message->record);
            asked_count--;
            memmove(&asked[i], &asked[i + 1], (asked_count - i) * sizeof asked[0]);
            return;
        }
    }
    print_exchange(message->protocol, &none, &message->record);
}

static void take_question(const struct nr_message *message) {
    check(asked_count < ASKED_MAX, "too many questions");
    asked[asked_count].protocol = message->protocol;
    asked[asked_count].pair = message->pair;
    asked[asked_count++].record = message->record;
}

static void take(struct side *side, nr_app_parser *parser, const struct nr_message *message) {
    check(message->used > 0, "a message has no bytes");
    note = message->note;
    side->needs = 0;
    side->parser = parser;
    if (message->role == NR_ASKS) {
        take_question(message);
    } else if (message->role == NR_ANSWERS) {
        take_answer(message);
    } else if (message->role == NR_ALONE) {
        print_exchange(message->protocol, &message->record, NULL);
    } else {
        check(message->record.size == 0, "a silent message has a record");
    }
    if (message->next == NR_PARSE_CHUNKS && parser != nr_http_chunk) {
        side->chunked = parser;
        side->parser = nr_http_chunk;
    } else if (message->next == NR_PARSE_SAME && parser == nr_http_chunk) {
        side->parser = side->chunked;
    } else if (message->next == NR_PARSE_NOTHING) {
        side->is_done = true;
    } else if (message->next == NR_PARSE_ANY) {
        side->parser = NULL;
    }
    side->skip = message->used;
}

static int call(nr_app_parser *parser, const struct side *side, struct nr_message *message,
                bool is_datagram) {
    const bool from_orig = side == &sides[0];
    const struct nr_app_bytes bytes = {
        .at = side->bytes,
        .length = is_datagram || side->length < KEPT_MAX ? side->length : KEPT_MAX,
        .is_datagram = is_datagram,
        .is_all = is_datagram || side->is_ended || side->length >= KEPT_MAX,
        .src_p = ports[!from_orig],
        .dst_p = ports[from_orig],
        .asked = asked_count > 0 ? asked[0].record.bytes : NULL,
        .asked_size = asked_count > 0 ? asked[0].record.size : 0,
        .from_orig = from_orig,
        .note = note,
    };
    memset(message, 0, sizeof *message);
    const int verdict = parser(&bytes, message);
    check(verdict != NR_MORE || !bytes.is_all, "more is asked for where nothing will come");
    check(verdict != NR_MORE || message->needs == 0 || message->needs > bytes.length,
          "the bytes asked for are there");
    return verdict;
}

/* Reads one message; returns false if there is none. */
static bool step(struct side *side) {
    struct nr_message message;
    bool waits = false;
    for (int i = 0; i < PARSERS; i++) {
        nr_app_parser *parser = side->parser != NULL ? side->parser : parsers[i];
        const int verdict = call(parser, side, &message, false);
        if (verdict == NR_MESSAGE) {
            take(side, parser, &message);
            if (message.hands_over) {
                printf("over %u\n", message.protocol);
                carrier = message.protocol;
                note = 0;
                for (int s = 0; s < 2; s++) {
                    sides[s].parser = NULL;
                    sides[s].is_done = false;
                }
            }
            return true;
        }
        waits = waits || verdict == NR_MORE;
        if (side->parser != NULL) {
            side->needs = message.needs;
            break;
        }
    }
    side->is_done = !waits;
    return false;
}

static void skip(struct side *side) {
    const uint32_t gone = side->skip < side->length ? (uint32_t)side->skip : side->length;
    memmove(side->bytes, side->bytes + gone, side->length - gone);
    side->length -= gone;
    side->skip -= gone;
}

static void run(void) {
    for (bool goes_on = true; goes_on;) {
        goes_on = false;
        for (int s = 0; s < 2; s++) {
            struct side *side = &sides[s];
            skip(side);
            while (!side->is_done && side->length > 0 &&
                   (side->length >= side->needs || side->is_ended) && step(side)) {
                skip(side);
                goes_on = true;
            }
            if (side->is_done) {
                side->length = 0;
                side->skip = 0;
            }
        }
    }
}

static void take_datagram(struct side *side) {
    struct nr_message message;
    for (int i = 0; i < PARSERS; i++) {
        if (call(parsers[i], side, &message, true) == NR_MESSAGE) {
            check(message.used == side->length, "a datagram has bytes behind its message");
            print_exchange(message.protocol, &message.record, NULL);
            break;
        }
    }
    side->length = 0;
}

static void read_all(void *to, size_t size) {
    check(fread(to, 1, size, stdin) == size, "the input ends too early");
}

static void read_piece(struct side *side) {
    uint32_t length;
    read_all(&length, sizeof length);
    check(length <= SIDE_MAX - side->length, "too much");
    read_all(side->bytes + side->length, length);
    side->length += side->is_done ? 0 : length;
}

static void end_flow(void) {
    sides[0].is_ended = sides[1].is_ended = true;
    run();
    for (uint32_t i = 0; i < asked_count; i++) {
        print_exchange(asked[i].protocol, &asked[i].record, NULL);
    }
    printf(".\n");
    fflush(stdout);
}

int main(void) {
    for (int c = getchar(); c != EOF; c = getchar()) {
        struct side *side = &sides[c == 'R' || c == 'r' || c == 'd'];
        switch (c) {
        case 'N':
            read_all(ports, sizeof ports);
            for (int s = 0; s < 2; s++) {
                memset(&sides[s], 0, offsetof(struct side, bytes));
            }
            asked_count = note = carrier = 0;
            break;
        case 'O':
        case 'R':
            read_piece(side);
            run();
            break;
        case 'o':
        case 'r':
            side->is_ended = true;
            run();
            break;
        case 'D':
        case 'd':
            read_piece(side);
            take_datagram(side);
            break;
        default:
            end_flow();
            break;
        }
    }
    return 0;
}
