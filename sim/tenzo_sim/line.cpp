// Runs the Verilated shell with a host at the other end of its serial line, bit by bit.
// Bytes for the shell are sent as a start bit, eight bits from the lowest on and a stop bit, and those that it sends are
// taken off the line, at a baud of the host's own. Bits may be wrong by chance, and the cable may be pulled.

#include "simulation.h"

namespace {

constexpr int BITS = 10;

struct Line : Simulation {
    const double bit;      // cycles of one of the host's bits
    const uint32_t flips;  // chance of a wrong bit, either way
    uint64_t flipped = 0;
    bool connected = true;

    // To the shell: the bits that are left of a byte, the level of the present one and when it ends.
    uint32_t sending = 0;
    int unsent = 0;
    bool level = true;
    double until = 0;

    // From the shell: the bits so far, the level a cycle ago and when the next bit is looked at.
    uint32_t receiving = 0;
    int received = BITS;
    bool before = true;
    double look = 0;

    Line(uint64_t seed, double bit, uint32_t flips, const char *file)
        : Simulation(seed, file), bit(bit), flips(flips) {
        top->clk = 0;
        top->rx = 1;
        top->eval();
    }

    bool damaged(bool value) {
        const bool flip = chance(flips);
        flipped += flip;
        return value != flip;
    }

    // The level of this cycle to the shell.
    bool send() {
        if (cycles < until) return level;
        if (unsent == 0) {
            if (taken == input.size()) return true;
            sending = 1u << (BITS - 1) | input[taken++] << 1;
            unsent = BITS;
            // After an idle line a byte begins anywhere in a cycle.
            if (until < cycles - 1.0) until = cycles - draw() / 4294967296.0;
        }
        level = damaged(sending & 1);
        sending >>= 1;
        --unsent;
        until += bit;
        return level;
    }

    // Takes the level of this cycle from the shell; true when it completes a byte.
    bool receive(bool now) {
        bool complete = false;
        if (received == BITS) {
            if (before && !now) {
                receiving = received = 0;
                look = cycles + bit / 2;
            }
        } else if (cycles >= look) {
            const bool value = damaged(now);
            receiving |= value << received++;
            look += bit;
            if (received == 1 && value) received = BITS;  // a start bit that is none
            else complete = received == BITS && value;    // without its stop bit it is no byte
            if (complete) output.push_back(receiving >> 1);
        }
        before = now;
        return complete;
    }
};

}  // namespace

extern "C" {

void *tenzo_create(uint64_t seed, double bit, uint32_t flips, const char *trace) {
    return static_cast<Simulation *>(new Line(seed, bit, flips, trace));
}

// Runs up to `cycles`; ends early after the byte `stop` has come out (no byte: -1). Returns the cycles run.
uint64_t tenzo_run(void *handle, uint64_t cycles, int stop) {
    auto *line = static_cast<Line *>(static_cast<Simulation *>(handle));
    Vharness *top = line->top.get();
    for (uint64_t cycle = 0; cycle < cycles; ++cycle) {
        const bool level = line->send();
        top->rx = level || !line->connected;
        line->fall();
        const bool complete = line->receive(top->tx || !line->connected);
        line->rise();
        if (complete && line->output.back() == stop) return cycle + 1;
    }
    return cycles;
}

// Pulls the cable, both ways, or puts it back.
void tenzo_connect(void *handle, int connected) {
    static_cast<Line *>(static_cast<Simulation *>(handle))->connected = connected;
}

// Bits that were made wrong so far.
uint64_t tenzo_flipped(void *handle) { return static_cast<Line *>(static_cast<Simulation *>(handle))->flipped; }

// The lights: alive, busy and error from the lowest bit on.
int tenzo_lights(void *handle) {
    const auto &top = static_cast<Simulation *>(handle)->top;
    return top->alive | top->busy << 1 | top->error << 2;
}
}
