/* Fuzzes the parser of banners of SSH: see one_parser.h. */
#define PARSER nr_ssh_parse
#include "one_parser.h"
