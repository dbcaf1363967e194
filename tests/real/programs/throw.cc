// Exceptions through threads, through a library that is opened, and out of the program.
#include <dlfcn.h>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static thread_local std::string here = "fresh";

static int through(const char *name)
{
    void *library = dlopen(name, RTLD_NOW);
    if (!library) return std::cout << dlerror() << std::endl, 1;
    auto call = reinterpret_cast<void (*)(void (*)())>(dlsym(library, "call"));
    try {
        call([] { throw std::runtime_error("through the library"); });
    } catch (const std::exception &e) {
        std::cout << "caught " << e.what() << std::endl;
    }
    try {
        reinterpret_cast<void (*)()>(dlsym(library, "fail"))();
    } catch (const std::logic_error &e) {
        std::cout << "caught " << e.what() << std::endl;
    }
    return 0;
}

int main(int argc, char **argv)
{
    std::vector<std::thread> threads;
    std::vector<std::string> results(8);
    for (int n = 0; n < 8; n++)
        threads.emplace_back([n, &results] {
            try {
                if (here != "fresh") return;
                here = std::to_string(n);
                throw std::out_of_range(here);
            } catch (const std::exception &e) {
                results[n] = std::string("thread ") + e.what();
            }
        });
    for (auto &t : threads) t.join();
    for (auto &r : results) std::cout << r << std::endl;
    if (through(argv[1])) return 1;
    if (argc > 2) throw std::runtime_error("nobody catches this");
    return 0;
}
