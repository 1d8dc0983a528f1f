/* What a kernel lacks, by its configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/kernel_config.h"

static void an_option_counts_only_when_it_is_built_in(void **state)
{
	cleanup_free char *lacks =
		kernel_config_lacks("CONFIG_BLK_DEV_INITRD=y\nCONFIG_VIRTIO_MMIO=m\n"
				    "# CONFIG_X86_MPPARSE is not set\nCONFIG_EXT4_FS=y\n"
				    "CONFIG_TMPFS=yes\nXCONFIG_OVERLAY_FS=y\n",
				    true);

	(void)state;
	assert_non_null(strstr(lacks, "CONFIG_VIRTIO_MMIO is a module"));
	assert_non_null(strstr(lacks, "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES is missing"));
	assert_non_null(strstr(lacks, "CONFIG_X86_MPPARSE is missing"));
	assert_non_null(strstr(lacks, "CONFIG_TMPFS is missing"));
	assert_non_null(strstr(lacks, "CONFIG_OVERLAY_FS is missing"));
	assert_null(strstr(lacks, "CONFIG_EXT4_FS"));
	assert_null(strstr(lacks, "CONFIG_BLK_DEV_INITRD"));
	assert_null(strstr(lacks, "CONFIG_VIRTIO_NET"));
}

static void an_empty_configuration_lacks_all(void **state)
{
	cleanup_free char *needed = kernel_config_lacks("", true);
	cleanup_free char *wanted = kernel_config_lacks("", false);

	(void)state;
	assert_non_null(strstr(needed, "CONFIG_EROFS_FS is missing"));
	assert_non_null(strstr(wanted, "CONFIG_VIRTIO_NET is missing"));
}

static void the_guest_kernels_own_fragment_lacks_nothing(void **state)
{
	cleanup_free char *text = NULL, *needed = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(file_read(AT_FDCWD, "contrib/kernel/config", 1 << 20, &text, NULL, &err),
			 0);
	needed = kernel_config_lacks(text, true);
	assert_null(needed);
}

static void a_configuration_is_found_beside_its_kernel(void **state)
{
	char dir[] = "/tmp/husk-test-XXXXXX";
	cleanup_free char *kernel = NULL, *config = NULL, *text = NULL, *other = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	assert_non_null(mkdtemp(dir));
	kernel = xasprintf("%s/vmlinuz-6.1.0-x", dir);
	config = xasprintf("%s/config-6.1.0-x", dir);
	other = xasprintf("%s/.config", dir);
	assert_int_equal(file_put(AT_FDCWD, kernel, "", &err), -1);
	close(open(kernel, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(kernel_config_read(kernel, &text, &err), 0);
	close(open(config, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(file_put(AT_FDCWD, config, "CONFIG_SMP=y\n", &err), 0);
	assert_int_equal(kernel_config_read(kernel, &text, &err), 1);
	assert_string_equal(text, "CONFIG_SMP=y\n");
	unlink(kernel);
	assert_int_equal(kernel_config_read(kernel, &text, &err), -1);
	unlink(config);
	unlink(other);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_option_counts_only_when_it_is_built_in),
		cmocka_unit_test(an_empty_configuration_lacks_all),
		cmocka_unit_test(the_guest_kernels_own_fragment_lacks_nothing),
		cmocka_unit_test(a_configuration_is_found_beside_its_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
