/* What a guest sends of its projects. Whatever it is: of the host's files, only the one that the
 * container may write changes, and never its owner or its set-uid bits. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/mirror_projects.h"
#include "shim/mount_plan.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/husk-fuzz.XXXXXX";
static int dirfd_ = -1, stream;
static struct projects_mirror *p;

static void clean(void)
{
	static const char *const names[] = {"p0", "p1", "mounts.json"};

	pm_free(p);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlinkat(dirfd_, names[i], 0);
	rmdir(dir);
}

/* p0: may be written; p1: not. */
static void prepare(void)
{
	struct planned_mount v[2] = {{0}};
	struct mount_plan plan = {.v = v, .n = 2, .projects = 2};

	log_setup(-1, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	if (!mkdtemp(dir))
		abort();
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	stream = memfd_create("stream", MFD_CLOEXEC);
	for (size_t i = 0; i < 2; i++) {
		v[i] = (struct planned_mount){.index = i, .writable = i == 0, .fd = -1};
		v[i].name = xasprintf("p%zu", i);
		v[i].source = xasprintf("%s/p%zu", dir, i);
		if (file_write_atomic(dirfd_, v[i].name, "1", 1, 0644, NULL) < 0)
			abort();
		v[i].fd = openat(dirfd_, v[i].name, O_PATH | O_CLOEXEC);
		if (mount_identity(v[i].fd, v[i].identity, NULL) < 0)
			abort();
		close_fd(&v[i].fd);
	}
	if (mount_plan_save(&plan, dirfd_, NULL) < 0)
		abort();
	p = pm_open(dirfd_, (struct timespec){.tv_sec = INT32_MAX}, NULL);
	if (!p)
		abort();
	for (size_t i = 0; i < 2; i++) {
		free(v[i].name);
		free(v[i].source);
	}
	atexit(clean);
}

static void check(void)
{
	cleanup_free char *text = NULL;
	struct stat st;
	size_t len;

	if (file_read(dirfd_, "p1", 16, &text, &len, NULL) < 0 || strcmp(text, "1") != 0)
		abort();
	if (fstatat(dirfd_, "p0", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    (st.st_mode & 07000) || st.st_uid != geteuid() || st.st_size > PROJECT_GROWN_BYTES)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (dirfd_ < 0)
		prepare();
	if (ftruncate(stream, 0) < 0 || pwrite(stream, data, size, 0) != (ssize_t)size)
		abort();
	lseek(stream, 0, SEEK_SET);
	pm_receive(p, stream, NULL);
	check();
	return 0;
}
