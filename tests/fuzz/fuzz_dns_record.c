/* Records of the name server's stream: what is parsed is within the bytes that came, and the head
 * that it would be written with is the one that it had. */
#include "lib/dns_record.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = ERROR_INIT;
	struct dns_record r;
	unsigned sum = 0;
	int n;

	while ((n = dns_record_parse(data, size, &r, &err)) > 0) {
		uint8_t head[DNS_RECORD_HEAD];

		expect((size_t)n <= size && n == DNS_RECORD_HEAD + r.len);
		expect(r.message == data + DNS_RECORD_HEAD);
		dns_record_head(head, r.id, r.protocol, r.len);
		expect(memcmp(head, data, sizeof(head)) == 0);
		for (unsigned i = 0; i < r.len; i++)
			sum += r.message[i];
		data += n;
		size -= (size_t)n;
	}
	expect(n == 0 || err.kind == ERR_PEER);
	/* Reading every byte is what the sanitizers look at. */
	return sum == UINT32_MAX ? -1 : 0;
}
