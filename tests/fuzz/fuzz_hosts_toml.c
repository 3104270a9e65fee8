/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_hosts_toml.c - hosts.toml */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "err.h"
#include "hosts_toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct hosts_config *c = NULL;
	struct err e = {0};

	if (hosts_toml_parse((const char *)data, len, &c, &e)) {
		assert(e.msg[0]);
		return 0;
	}
	for (size_t i = 0; i < c->host_count; i++) {
		assert(strstr(c->hosts[i].url, "://"));
		for (size_t k = 0; k < c->hosts[i].header_count; k++)
			assert(!strpbrk(c->hosts[i].headers[k], "\r\n"));
	}
	hosts_config_free(c);
	return 0;
}
