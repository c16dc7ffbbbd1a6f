/* Fuzzes the parser of protocols that change to TLS: see one_parser.h. */
#define PARSER nr_starttls_parse
#include "one_parser.h"
