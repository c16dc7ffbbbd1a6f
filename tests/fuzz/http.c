/* Fuzzes the parser of requests and answers of HTTP: see one_parser.h. */
#define PARSER nr_http_parse
#include "one_parser.h"
