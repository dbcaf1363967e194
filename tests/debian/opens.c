/* Opens libraries: each argument is LIBRARY:FUNCTION, a function that gives a text. Prints the texts, and the errors. */

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	for (int n = 1; n < argc; n++) {
		char *name = strchr(argv[n], ':');
		const char *(*function)(void);
		void *library;

		*name++ = 0;
		library = dlopen(argv[n], RTLD_NOW);
		function = library ? (const char *(*)(void))dlsym(library, name) : NULL;
		puts(function ? function() : dlerror());
	}
	return 0;
}
