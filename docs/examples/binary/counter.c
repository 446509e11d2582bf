/* A program that stays: it speaks with the node itself, on descriptor 3. Its handler is
 * "./counter worker". It answers every call with how many there were. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    FILE *in = fdopen(3, "r"), *out = fdopen(3, "w");
    char *line = NULL;
    size_t room = 0;
    unsigned long calls = 0;

    fputs("{\"ready\":1}\n", out);
    fflush(out);
    while (getline(&line, &room, in) > 0) {
        unsigned long id = strtoul(line + strlen("{\"call\":"), NULL, 10);
        printf("call %lu\n", ++calls);
        fflush(stdout);
        fprintf(out, "{\"ok\":%lu,\"payload\":%lu}\n", id, calls);
        fflush(out);
    }
    return 0;
}
