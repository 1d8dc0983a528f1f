#include "shim/annotations.h"
#include "shim/mirror.h"
#include "shim/scratch.h"

#include <string.h>

const char *const annotation_names[] = {
	ENGINE_ANNOTATION,
	KERNEL_ANNOTATION,
	MEMORY_ANNOTATION,
	VCPUS_ANNOTATION,
	SCRATCH_ANNOTATION,
	SYNC_ANNOTATION,
	NULL,
};

static bool is_one_of(const char *name, const char *const *names)
{
	while (*names && strcmp(name, *names) != 0)
		names++;
	return *names;
}

bool annotation_allowed(const struct config_file *file, const char *name)
{
	static const char *const safe[] = {MEMORY_ANNOTATION, VCPUS_ANNOTATION, SCRATCH_ANNOTATION,
					   SYNC_ANNOTATION, NULL};

	return file->annotations.given ? config_list_has(&file->annotations, name)
				       : is_one_of(name, safe);
}

int annotations_check(const struct oci_spec *spec, const struct config_file *file,
		      struct error *err)
{
	for (size_t i = 0; i < spec->n_annotations; i++) {
		const char *name = spec->annotations[i].key;

		if (strncmp(name, ANNOTATION_PREFIX, strlen(ANNOTATION_PREFIX)) != 0)
			continue;
		if (!is_one_of(name, annotation_names))
			return error_kind(err, ERR_INVALID,
					  "annotations[\"%s\"]: husk knows no such annotation",
					  name);
		if (!annotation_allowed(file, name))
			return error_kind(err, ERR_UNSUPPORTED,
					  "annotations[\"%s\"]: this host does not let config.json "
					  "set it: its administrator can, with \"annotations\" in "
					  "%s",
					  name, config_file_name());
	}
	return 0;
}
