// Runs the Verilated machine many cycles a call: what Python cannot do a clock edge at a time.
// Bytes for the machine wait in a queue; bytes from it are collected. Both streams can be made to stutter from a seed.

#include "simulation.h"

namespace {

struct Machine : Simulation {
    const uint32_t idle, busy;  // chances of a cycle without an offered byte, and of one that takes no byte

    Machine(uint64_t seed, uint32_t idle, uint32_t busy, const char *file)
        : Simulation(seed, file), idle(idle), busy(busy) {
        top->clk = 0;
        top->rx_valid = 0;
        top->tx_ready = 0;
        top->eval();
    }
};

}  // namespace

extern "C" {

void *tenzo_create(uint64_t seed, uint32_t idle, uint32_t busy, const char *trace) {
    return static_cast<Simulation *>(new Machine(seed, idle, busy, trace));
}

// Runs up to `cycles`; ends early after the byte `stop` has come out (no byte: -1). Returns the cycles run.
uint64_t tenzo_run(void *handle, uint64_t cycles, int stop) {
    auto *machine = static_cast<Machine *>(static_cast<Simulation *>(handle));
    Vharness *top = machine->top.get();
    for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
        // An offered byte stays until it is taken.
        if (!top->rx_valid && machine->taken < machine->input.size() && !machine->chance(machine->idle)) {
            top->rx_valid = 1;
            top->rx_data = machine->input[machine->taken];
        }
        top->tx_ready = !machine->chance(machine->busy);
        machine->fall();
        const bool in = top->rx_valid && top->rx_ready;
        const bool out = top->tx_valid && top->tx_ready;
        const uint8_t byte = top->tx_data;
        machine->rise();
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
}
