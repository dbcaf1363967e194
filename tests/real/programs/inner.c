/* A library that another one needs. */
const char *inner(void) { return NAME; }
