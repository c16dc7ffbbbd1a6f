/* Lists the ports that servers use by custom. If the beginning of a conversation was not seen, the
 * side at such a port is taken for the responder. The ports are those of the services that Zeek
 * knows. */
#include "flow/table_internal.h"

static const uint16_t TCP_SERVERS[] = {
    21,   22,   25,   53,   79,   80,   81,   88,   135,  139,   143,  389,  443,
    445,  465,  502,  514,  563,  585,  587,  614,  631,  636,   989,  990,  992,
    993,  995,  1080, 1434, 1883, 2811, 3128, 3268, 3306, 3389,  5222, 5223, 5269,
    5432, 6379, 6666, 6667, 6668, 6669, 8000, 8080, 8888, 20000,
};
static const uint16_t UDP_SERVERS[] = {
    53,   67,   88,   123,  137,  161,  162,  389,  443,  514,  1812, 2123,
    2152, 3389, 3544, 4011, 4754, 4789, 5060, 5072, 5353, 5355, 6081, 20000,
};

static bool has_port(const uint16_t *ports, size_t count, uint16_t port) {
    size_t low = 0;
    while (low < count) {
        const size_t middle = (low + count) / 2;
        if (ports[middle] == port) {
            return true;
        }
        if (ports[middle] < port) {
            low = middle + 1;
        } else {
            count = middle;
        }
    }
    return false;
}

bool nr_port_is_server(uint8_t proto, uint16_t port) {
    if (proto == NR_PROTO_TCP) {
        return has_port(TCP_SERVERS, sizeof TCP_SERVERS / sizeof *TCP_SERVERS, port);
    }
    return proto == NR_PROTO_UDP &&
           has_port(UDP_SERVERS, sizeof UDP_SERVERS / sizeof *UDP_SERVERS, port);
}
