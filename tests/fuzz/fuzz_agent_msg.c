/* What a hostile guest may send in place of its agent's messages. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/agent_msg.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static char *text_of(const struct stats *s)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	expect(jsonw_init(&w, false, NULL) == 0);
	stats_write(s, &w);
	text = jsonw_finish(&w, NULL, NULL);
	expect(text != NULL);
	return xstrdup(text);
}

/* What `events` prints of a guest's figures is JSON that says the same again. */
static void expect_figures(const struct stats *s)
{
	cleanup_free struct stats *back = xcalloc(1, sizeof(*back));
	cleanup_free char *text = text_of(s), *again = NULL;
	cleanup_json yajl_val v = json_parse(text, strlen(text), NULL);

	expect(v && stats_read(v, back, NULL) == 0);
	again = text_of(back);
	expect(strcmp(text, again) == 0);
}

static void expect_bounds(const struct agent_msg *m)
{
	expect(strlen(m->event) < sizeof(m->event) && strlen(m->process) < sizeof(m->process));
	expect(strlen(m->kernel) < sizeof(m->kernel));
	for (unsigned i = 0; i < STREAMS; i++)
		expect(m->token[i][0] == '\0' || strlen(m->token[i]) == AGENT_TOKEN_LEN);
	expect(m->stream[0] == '\0' || strlen(m->stream) == AGENT_TOKEN_LEN);
	expect(m->result[0] == '\0' || strlen(m->result) == AGENT_TOKEN_LEN);
	expect(strlen(m->container) < sizeof(m->container) && strlen(m->name) < sizeof(m->name));
	expect(!strchr(m->name, '/') && strcmp(m->name, "..") != 0);
	expect(!m->has_status || (m->status >= 0 && m->status <= 255));
	expect(m->signal >= 0 && m->signal < 128);
	expect(m->n_ps <= AGENT_PS_MAX);
	for (size_t i = 0; i < m->n_ps; i++)
		expect(m->ps[i].user && m->ps[i].cmd && m->ps[i].tty);
	if (m->stats)
		expect_figures(m->stats);
	expect(!m->failed || m->error.msg[0]);
	expect(!strpbrk(m->error.msg, "\n\033"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of the exact size: a byte read behind it is seen. */
	cleanup_free char *text = malloc(size ? size : 1);
	struct error err = ERROR_INIT;
	struct agent_msg m;

	memcpy(text, data, size);
	if (agent_msg_parse(text, size, &m, &err) < 0) {
		expect(err.msg[0] && err.kind == ERR_PEER);
		return 0;
	}
	expect_bounds(&m);
	agent_msg_free(&m);
	return 0;
}
