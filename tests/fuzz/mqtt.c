/* Fuzzes the parser of CONNECT and CONNACK of MQTT: see one_parser.h. */
#define PARSER nr_mqtt_parse
#include "one_parser.h"
