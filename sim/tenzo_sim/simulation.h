// What every harness has: a Verilated design, the bytes that wait for it and those that came out, and chance by a seed.

#include <cstdint>
#include <memory>
#include <vector>

#include "Vharness.h"
#include "verilated.h"
#ifdef TENZO_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

struct Simulation {
    VerilatedContext context;
    std::unique_ptr<Vharness> top;
#ifdef TENZO_TRACE
    VerilatedVcdC trace;
#endif
    std::vector<uint8_t> input, output;
    size_t taken = 0;
    uint64_t cycles = 0;
    uint64_t random;

    Simulation(uint64_t seed, const char *file) : random(seed * 2 + 1) {
#ifdef TENZO_TRACE
        context.traceEverOn(true);
#endif
        top = std::make_unique<Vharness>(&context);
#ifdef TENZO_TRACE
        top->trace(&trace, 99);
        trace.open(file);
#else
        (void)file;
#endif
    }

    virtual ~Simulation() {
        top->final();
#ifdef TENZO_TRACE
        trace.close();
#endif
    }

    // The clock goes low: what depends on inputs alone settles.
    void fall() {
        top->clk = 0;
        top->eval();
#ifdef TENZO_TRACE
        trace.dump(10 * cycles);
#endif
    }

    // The clock's edge, which ends the cycle.
    void rise() {
        top->clk = 1;
        top->eval();
#ifdef TENZO_TRACE
        trace.dump(10 * cycles + 5);
#endif
        ++cycles;
    }

    // xorshift64*: chance must be the same on every machine.
    uint32_t draw() {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        return (random * 0x2545F4914F6CDD1DULL) >> 32;
    }

    // True by a chance in 2^32.
    bool chance(uint32_t of_2_32) { return of_2_32 != 0 && draw() < of_2_32; }
};

}  // namespace

extern "C" {

void tenzo_destroy(void *handle) { delete static_cast<Simulation *>(handle); }

void tenzo_write(void *handle, const uint8_t *data, size_t length) {
    auto *simulation = static_cast<Simulation *>(handle);
    simulation->input.erase(simulation->input.begin(), simulation->input.begin() + simulation->taken);
    simulation->taken = 0;
    simulation->input.insert(simulation->input.end(), data, data + length);
}

// Bytes that the design has not taken yet.
size_t tenzo_waiting(void *handle) {
    auto *simulation = static_cast<Simulation *>(handle);
    return simulation->input.size() - simulation->taken;
}

// Moves up to `capacity` bytes that came out to `data` and returns how many.
size_t tenzo_read(void *handle, uint8_t *data, size_t capacity) {
    auto &output = static_cast<Simulation *>(handle)->output;
    const size_t count = output.size() < capacity ? output.size() : capacity;
    for (size_t index = 0; index < count; ++index) data[index] = output[index];
    output.erase(output.begin(), output.begin() + count);
    return count;
}
}
