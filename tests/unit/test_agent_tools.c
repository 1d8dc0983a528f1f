/* The agent's changes, pushes and watches, on this host (agent_server.h). */
#include "lib/changeset/apply.h"
#include "lib/changeset/collect.h"
#include "tests/unit/agent_server.h"

/* Takes the answer of `changes`, applies the stream to the directory `to`. */
static int take_changes(const struct fixture *f, int fd, int seq, const char *to)
{
	cleanup_json yajl_val v = hear(fd);
	cleanup_close int dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct cs_apply_options o = {0};
	struct cs_counts n = {0};
	struct error err = ERROR_INIT;
	int stream, r;

	assert_int_equal(json_int(v, "seq", -1), seq);
	if (!json_bool(v, "ok", false))
		fail_msg("%s", json_str(json_get(v, "error"), "message"));
	stream = dial_stream(f, json_str(v, "stream"));
	r = cs_apply(stream, dir, &o, &n, &err);
	if (r == 0)
		hear_closed(stream);
	close(stream);
	return r;
}

/* Opens the two streams of a push. */
static int hear_push(const struct fixture *f, int fd, int seq, int *result)
{
	cleanup_json yajl_val v = hear(fd);

	assert_int_equal(json_int(v, "seq", -1), seq);
	if (!json_bool(v, "ok", false))
		fail_msg("%s", json_str(json_get(v, "error"), "message"));
	*result = dial_stream(f, json_str(v, "result"));
	return dial_stream(f, json_str(v, "stream"));
}

static void put_file(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(write_all(fd, text, strlen(text), NULL), 0);
}

static void expect_file(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_free char *got = NULL;
	struct error err = ERROR_INIT;

	if (file_read(AT_FDCWD, path, 1 << 20, &got, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(got, text);
}

static void test_changes_of_a_running_and_of_an_ended_container(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f);
	cleanup_free char *upper = xasprintf("%s/scratch/upper", f->dir);
	cleanup_free char *to = xasprintf("%s/host", f->dir);
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	put_file(upper, "one", "1");
	ask(fd, WHAT(3, "changes", "c", "root"));
	assert_int_equal(take_changes(f, fd, 3, to), 0);
	expect_file(to, "one", "1");
	put_file(upper, "two", "2");
	close_fd(&io.in);
	ask(fd, OP(4, "wait", "c"));
	hear_status(fd, 4, 1, 0);
	ask(fd, WHAT(5, "changes", "c", "root"));
	assert_int_equal(take_changes(f, fd, 5, to), 0);
	expect_file(to, "two", "2");
	ask(fd, OP(6, "delete", "c"));
	hear_ok(fd, 6);
	io_close(&io);
	close(fd);
}

static void test_a_push_to_the_root(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), stream, result, dir;
	cleanup_free char *root = xasprintf("%s/root", f->dir);
	cleanup_free char *from = xasprintf("%s/host", f->dir);
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");
	struct cs_counts n = {0};

	put_file(from, "pushed", "text");
	ask(fd, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, fd, 3, &result);
	dir = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(cs_collect_paths(dir, (char *[]){(char *)"pushed"}, 1, stream, &n, NULL),
			 0);
	expect_output(result, "ok\n");
	expect_file(root, "pushed", "text");
	close(dir);
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_a_bad_push_says_why(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), stream, result;
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");
	cleanup_free char *said = NULL;

	ask(fd, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, fd, 3, &result);
	assert_int_equal(write(stream, "HUSKCS01", 8), 8);
	shutdown(stream, SHUT_WR);
	said = slurp(result, NULL);
	assert_memory_equal(said, "error: ", 7);
	assert_string_equal(strchr(said, '\n'), "\n");
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_a_delete_ends_a_push_that_waits(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), stream, result;
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	ask(fd, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, fd, 3, &result);
	ask(fd, OP(4, "delete", "c"));
	hear_ok(fd, 4);
	expect_output(result, "");
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_a_client_that_goes_takes_its_push_along(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), other = dial_control(f), stream, result;
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	ask(other, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, other, 3, &result);
	close(other);
	expect_output(result, "");
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_changes_that_cannot_be(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f);
	cleanup_free char *upper = xasprintf("%s/scratch/upper", f->dir);
	struct io ro = run(f, fd, CREATE(1, "ro", PROCESS("", "read a")), "ro");
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	ask(fd, WHAT(2, "changes", "none", "root"));
	hear_error(fd, 2, "not_found", "none");
	ask(fd, WHAT(3, "changes", "ro", "root"));
	hear_error(fd, 3, "invalid", "read-only root");
	ask(fd, WHAT(4, "push", "ro", "root"));
	hear_error(fd, 4, "invalid", "read-only root");
	rmdir(upper);
	ask(fd, WHAT(5, "changes", "c", "root"));
	hear_error(fd, 5, "other", "upper");
	io_close(&ro);
	io_close(&io);
	close(fd);
}

static void test_no_more_changes_at_one_time_than_allowed(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), extra = dial_control(f);
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	/* Those that nobody feeds wait, and are many. */
	for (int i = 0; i < 64; i++) {
		ask(extra, WHAT(3, "push", "c", "root"));
		yajl_tree_free(hear(extra));
	}
	ask(fd, WHAT(4, "changes", "c", "root"));
	hear_error(fd, 4, "other", "too many changesets");
	close(extra);
	ask(fd, "{\"seq\":5,\"op\":\"shutdown\"}");
	hear_ok(fd, 5);
	io_close(&io);
	close(fd);
}

static void test_watch(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "read a")), "c");

	ask(fd, OP(3, "watch", "c"));
	hear_ok(fd, 3);
	ask(fd, OP(4, "watch", "c"));
	hear_ok(fd, 4);
	ask(fd, OP(5, "watch", "none"));
	hear_error(fd, 5, "not_found", "none");
	ask(fd, OP(6, "delete", "c"));
	hear_ok(fd, 6);
	io_close(&io);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DIR_TEST(test_changes_of_a_running_and_of_an_ended_container),
		DIR_TEST(test_a_push_to_the_root),
		DIR_TEST(test_a_bad_push_says_why),
		DIR_TEST(test_a_delete_ends_a_push_that_waits),
		DIR_TEST(test_a_client_that_goes_takes_its_push_along),
		DIR_TEST(test_changes_that_cannot_be),
		DIR_TEST(test_no_more_changes_at_one_time_than_allowed),
		TEST(test_watch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
