/* Words for the numbers of the protocols inside flows: see api.h. */
#ifndef NR_FORMATS_APP_WORDS_H
#define NR_FORMATS_APP_WORDS_H

#include "core.h"

#endif
