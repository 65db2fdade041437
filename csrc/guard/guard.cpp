// Loaded into tritonserver and its model process by LD_PRELOAD: what they make is their user's alone from the moment it
// is there, and what they are told stands in no list of processes. Nothing else of them changes.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#define MIXPRIV_REPLACES extern "C" __attribute__((visibility("default")))

namespace {

template <typename Function>
Function* original(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

[[noreturn]] void refuse(const char* why) {
    const ssize_t told = write(STDERR_FILENO, why, std::strlen(why));
    _exit(told < 0 ? 2 : 1);
}

bool is_open(const char* argument) {
    const std::size_t length = std::strlen(argument);
    return length > 1 && std::strcmp(argument + length - 2, "=@") == 0;
}

char secrets[4096];

// Read the standard input to its end, which is empty from then on.
void read_secrets() {
    std::size_t length = 0;
    for (;;) {
        const ssize_t got = read(STDIN_FILENO, secrets + length, sizeof secrets - 1 - length);
        if (got <= 0) break;
        length += static_cast<std::size_t>(got);
    }
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0) refuse("guard: no /dev/null\n");
    close(nothing);
}

// Arguments that end in "=@" get a line of the standard input in place of the "@", before main sees them. The pointers
// change; the text that the kernel shows to everybody stays as it was.
__attribute__((constructor)) void complete_arguments(int argc, char** argv, char**) {
    char* line = nullptr;
    for (int i = 1; i < argc; ++i) {
        if (!is_open(argv[i])) continue;
        if (line == nullptr) {
            read_secrets();
            line = secrets;
        }
        char* end = std::strchr(line, '\n');
        if (end == nullptr) refuse("guard: the standard input has too few lines\n");
        const std::size_t kept = std::strlen(argv[i]) - 1, added = static_cast<std::size_t>(end - line);
        char* whole = static_cast<char*>(std::malloc(kept + added + 1));
        if (whole == nullptr) refuse("guard: out of memory\n");
        std::memcpy(whole, argv[i], kept);
        std::memcpy(whole + kept, line, added);
        whole[kept + added] = '\0';
        argv[i] = whole;
        line = end + 1;
    }
}

}  // namespace

// The Python backend creates its shared memory readable by all, and makes sure of it against the umask.
MIXPRIV_REPLACES int shm_open(const char* name, int flags, mode_t mode) {
    return original<decltype(shm_open)>("shm_open")(name, flags, mode & S_IRWXU);
}

MIXPRIV_REPLACES int fchmod(int file, mode_t mode) noexcept {
    return original<decltype(fchmod)>("fchmod")(file, mode & S_IRWXU);
}

// It keeps a folder in /tmp, whatever TMPDIR says, and leaves it there when it is killed: into the working folder.
MIXPRIV_REPLACES char* mkdtemp(char* name) noexcept {
    const char* const prefix = "/tmp/";
    if (std::strncmp(name, "/tmp/python_env_", 16) == 0)
        std::memmove(name, name + std::strlen(prefix), std::strlen(name) + 1 - std::strlen(prefix));
    return original<char*(char*)>("mkdtemp")(name);
}

// It runs its stub without arguments, to see it end with status 1, and changes the mode of the installed file if it
// does not. The answer it expects, at once.
MIXPRIV_REPLACES int system(const char* command) {
    if (command != nullptr && std::strstr(command, "/triton_python_backend_stub>") != nullptr) return 1 << 8;
    return original<int(const char*)>("system")(command);
}
