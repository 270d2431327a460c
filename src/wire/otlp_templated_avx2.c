/* Built with -mavx2; chosen when the machine has it (shape.c). */
#include "otlp_templated.c"
