// Runs the Verilated machine many cycles a call: what Python cannot do a clock edge at a time.
// Bytes for the machine wait in a queue; bytes from it are collected. Both streams can be made to stutter from a seed.

#include <cstdint>
#include <memory>
#include <vector>

#include "Vharness.h"
#include "verilated.h"
#ifdef TENZO_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

struct Machine {
    VerilatedContext context;
    std::unique_ptr<Vharness> top;
#ifdef TENZO_TRACE
    VerilatedVcdC trace;
#endif
    std::vector<uint8_t> input, output;
    size_t taken = 0;
    uint64_t cycles = 0;
    uint64_t random;
    uint32_t idle, busy;  // chances in 256 of a cycle without an offered byte, and of one that takes no byte

    // xorshift64*: the stutter must be the same on every machine.
    bool chance(uint32_t of_256) {
        if (of_256 == 0) return false;
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        return ((random * 0x2545F4914F6CDD1DULL) >> 56) < of_256;
    }
};

}  // namespace

extern "C" {

void *tenzo_create(uint64_t seed, uint32_t idle, uint32_t busy, const char *trace) {
    auto *machine = new Machine;
    machine->random = seed * 2 + 1;
    machine->idle = idle;
    machine->busy = busy;
#ifdef TENZO_TRACE
    machine->context.traceEverOn(true);
#endif
    machine->top = std::make_unique<Vharness>(&machine->context);
#ifdef TENZO_TRACE
    machine->top->trace(&machine->trace, 99);
    machine->trace.open(trace);
#else
    (void)trace;
#endif
    machine->top->clk = 0;
    machine->top->rx_valid = 0;
    machine->top->tx_ready = 0;
    machine->top->eval();
    return machine;
}

void tenzo_destroy(void *handle) {
    auto *machine = static_cast<Machine *>(handle);
    machine->top->final();
#ifdef TENZO_TRACE
    machine->trace.close();
#endif
    delete machine;
}

void tenzo_write(void *handle, const uint8_t *data, size_t length) {
    auto *machine = static_cast<Machine *>(handle);
    machine->input.erase(machine->input.begin(), machine->input.begin() + machine->taken);
    machine->taken = 0;
    machine->input.insert(machine->input.end(), data, data + length);
}

// Runs up to `cycles`; ends early after the byte `stop` has come out (no byte: -1). Returns the cycles run.
uint64_t tenzo_run(void *handle, uint64_t cycles, int stop) {
    auto *machine = static_cast<Machine *>(handle);
    Vharness *top = machine->top.get();
    for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
        // An offered byte stays until it is taken.
        if (!top->rx_valid && machine->taken < machine->input.size() && !machine->chance(machine->idle)) {
            top->rx_valid = 1;
            top->rx_data = machine->input[machine->taken];
        }
        top->tx_ready = !machine->chance(machine->busy);
        top->clk = 0;
        top->eval();
#ifdef TENZO_TRACE
        machine->trace.dump(10 * machine->cycles);
#endif
        const bool in = top->rx_valid && top->rx_ready;
        const bool out = top->tx_valid && top->tx_ready;
        const uint8_t byte = top->tx_data;
        top->clk = 1;
        top->eval();
#ifdef TENZO_TRACE
        machine->trace.dump(10 * machine->cycles + 5);
#endif
        ++machine->cycles;
        if (in) {
            ++machine->taken;
            top->rx_valid = 0;
        }
        if (out) {
            machine->output.push_back(byte);
            if (byte == stop) return cycle + 1;
        }
    }
    return cycles;
}

// Bytes that the machine has not taken yet.
size_t tenzo_waiting(void *handle) {
    auto *machine = static_cast<Machine *>(handle);
    return machine->input.size() - machine->taken;
}

// Moves up to `capacity` bytes that came out to `data` and returns how many.
size_t tenzo_read(void *handle, uint8_t *data, size_t capacity) {
    auto &output = static_cast<Machine *>(handle)->output;
    const size_t count = output.size() < capacity ? output.size() : capacity;
    for (size_t index = 0; index < count; ++index) data[index] = output[index];
    output.erase(output.begin(), output.begin() + count);
    return count;
}
}
