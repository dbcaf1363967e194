// A library that throws, and through which is thrown.
#include <iostream>
#include <stdexcept>

struct Guard { ~Guard() { std::cout << "unwound" << std::endl; } };

extern "C" void call(void (*back)())
{
    Guard guard;
    back();
}

extern "C" void fail() { throw std::logic_error("from the library"); }
