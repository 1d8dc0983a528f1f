/*
 * events: a container's figures, once or every so often, and its OOM kills, one JSON object a line.
 *
 * One connection to the agent does all: it watches (OOM kills come as events), waits for the end of
 * the container's process (which is the end of `events`), and is asked for figures when it is time.
 */
#include "lib/cleanup.h"
#include "lib/frame.h"
#include "lib/json.h"
#include "lib/log.h"
#include "shim/lifecycle.h"
#include "shim/quantity.h"

#include <poll.h>
#include <string.h>

#define ANSWER_US 30000000u

/* `stats` NULL: an event without data. */
static int print_event(const char *type, const char *id, const struct stats *stats,
		       struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	jsonw_kstr(&w, "type", type);
	jsonw_kstr(&w, "id", id);
	if (stats) {
		jsonw_key(&w, "data");
		stats_write(stats, &w);
	}
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, NULL, err);
	if (!text)
		return -1;
	printf("%s\n", text);
	return fflush(stdout) == 0 ? 0 : error_errno(err, "write to standard output");
}

static int print_once(struct agent_client *a, const char *id, struct error *err)
{
	cleanup_agent_msg struct agent_msg m = {0};

	if (agent_stats(a, id, &m, err) < 0)
		return -1;
	return print_event("stats", id, m.stats, err);
}

struct stream {
	struct agent_client *a;
	const char *id;
	uint64_t interval_us;
	uint64_t next_us;  /* when to ask for figures */
	uint64_t asked_us; /* when they were asked for; 0: no answer is owed */
	int64_t wait_seq, stats_seq;
	bool ended;
};

static int take_message(struct stream *s, const struct agent_msg *m, struct error *err)
{
	if (m->seq == s->wait_seq) {
		s->ended = true;
		return 0;
	}
	if (m->seq == s->stats_seq && s->asked_us) {
		s->asked_us = 0;
		if (m->failed) {
			*err = m->error;
			return -1;
		}
		return m->stats ? print_event("stats", s->id, m->stats, err) : 0;
	}
	return strcmp(m->event, "oom") == 0 ? print_event("oom", s->id, NULL, err) : 0;
}

/* The end of the connection is the end of the machine, and no error here. */
static int take_messages(struct stream *s, struct frame_buf *in, struct error *err)
{
	char *text;
	size_t len;
	int r;

	if (frame_buf_fill(in, s->a->sock, NULL) < 0) {
		s->ended = true;
		return 0;
	}
	while ((r = frame_buf_next(in, &text, &len, err)) > 0) {
		struct agent_msg m;

		r = agent_msg_parse(text, len, &m, err);
		frame_buf_done(in);
		if (r < 0)
			return -1;
		r = take_message(s, &m, err);
		agent_msg_free(&m);
		if (r < 0)
			return -1;
	}
	return r;
}

static int ask_if_due(struct stream *s, struct error *err)
{
	uint64_t now = now_us();
	struct error why = ERROR_INIT;

	if (s->asked_us && now - s->asked_us > ANSWER_US)
		return error_kind(err, ERR_TIMEOUT, "the guest does not answer");
	if (s->asked_us || now < s->next_us)
		return 0;
	/* Of a machine that ended meanwhile, what it sent last is still to be read. */
	if (agent_send_stats(s->a, s->id, &s->stats_seq, &why) < 0 && why.errnum != EPIPE &&
	    why.errnum != ECONNRESET) {
		*err = why;
		return -1;
	}
	s->asked_us = now;
	s->next_us = now + s->interval_us;
	return 0;
}

static int wait_ms(const struct stream *s)
{
	uint64_t now = now_us(), until = s->asked_us ? s->asked_us + ANSWER_US : s->next_us;
	uint64_t ms = until > now ? (until - now) / 1000 + 1 : 0;

	return ms > 86400000 ? 86400000 : (int)ms;
}

static int run_stream(struct stream *s, struct error *err)
{
	struct frame_buf in = {0};
	int r = 0;

	s->next_us = now_us() + s->interval_us;
	while (r == 0 && !s->ended) {
		struct pollfd p[2] = {{.fd = s->a->sock, .events = POLLIN},
				      {.fd = STDOUT_FILENO}}; /* POLLERR: its reader has gone */

		if (poll(p, 2, wait_ms(s)) > 0) {
			if (p[1].revents & POLLERR)
				break;
			if (p[0].revents)
				r = take_messages(s, &in, err);
		}
		if (r == 0 && !s->ended)
			r = ask_if_due(s, err);
	}
	frame_buf_free(&in);
	return r;
}

int cmd_events(const struct globals *g, int argc, char **argv, struct error *err)
{
	const char *interval = "5s";
	bool stats = false;
	const struct option_def defs[] = {{"interval", NULL, OPT_STR, &interval, "DURATION",
					   "how often to tell the figures (default 5s)"},
					  {"stats", NULL, OPT_FLAG, &stats, NULL,
					   "tell the figures once"},
					  {0}};
	int first = verb_options(argc, argv, defs, "events", "ID", 1, 1, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	struct stream s = {.a = &a};

	if (first < 0)
		return -1;
	if (!quantity_duration(interval, &s.interval_us))
		return error_kind(err, ERR_USAGE, "--interval: \"%s\": must be a duration (\"5s\")",
				  interval);
	if (s.interval_us == 0)
		return error_kind(err, ERR_USAGE, "duration interval must be greater than 0");
	if (container_open(g, argv[first], false, &d, &st, err) < 0)
		return -1;
	s.id = d.id;
	if (st.status == OCI_STATUS_STOPPED)
		return error_kind(err, ERR_NOT_RUNNING, "container with id %s is not running",
				  d.id);
	if (container_agent(&d, &st, &vmm, &a, err) < 0)
		return -1;
	if (stats)
		return print_once(&a, d.id, err);
	if (agent_watch(&a, d.id, err) < 0 || agent_send_wait(&a, d.id, "", &s.wait_seq, err) < 0)
		return -1;
	return run_stream(&s, err);
}
