/* SPDX-License-Identifier: Apache-2.0 */
/* http_internal - shared by http.c and http_setup.c. */
#pragma once
#include "keyprov/http.h"

/* Did an allocation of libcurl's fail on this thread since the last call?  It reports other things as "out of memory"
 * too. */
bool http_starved(void);
