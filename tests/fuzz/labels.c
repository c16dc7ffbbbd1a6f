/* Fuzzes the parser of protocols that only get a label: see one_parser.h. */
#define PARSER nr_label_parse
#include "one_parser.h"
