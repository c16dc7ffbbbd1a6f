/* Fuzzes the parser of bodies of HTTP in chunks: see one_parser.h. */
#define PARSER nr_http_chunk
#include "one_parser.h"
