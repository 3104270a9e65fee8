/* SPDX-License-Identifier: Apache-2.0 */
/* prefetch_list.c - see prefetch_list.h */
#include "prefetch_list.h"
