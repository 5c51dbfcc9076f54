// SB_SPRAM256KA: a single-port RAM of the Lattice iCE40 UltraPlus, 16,384 words of 16 bits (FPGA-TN-02022, SPRAM usage
// guide).
//
// Modelled: reads, and writes in units of 4 bits. Words are anything at power-on, and so is what comes out before the first
// read and behind a write: here it is something else than zeros, or than what was written, so that no design can depend on
// it. In the modes that save power nothing is read or written; that POWEROFF and the way out of SLEEP cost more is left out.
module SB_SPRAM256KA(
  input [13:0] ADDRESS,
  input [15:0] DATAIN,
  input [3:0] MASKWREN,
  input WREN, CHIPSELECT, CLOCK, STANDBY, SLEEP, POWEROFF,
  output reg [15:0] DATAOUT
);
  reg [15:0] words [0:16383];
  integer word;
  initial begin
    for (word = 0; word < 16384; word = word + 1)
      words[word] = 16'd40503 * word[15:0] + 16'd12345;
    DATAOUT = 16'd54321;
  end

  // POWEROFF is low when it is off.
  wire active = CHIPSELECT & POWEROFF & ~STANDBY & ~SLEEP;
  wire [15:0] mask = {{4{MASKWREN[3]}}, {4{MASKWREN[2]}}, {4{MASKWREN[1]}}, {4{MASKWREN[0]}}};
  always @(posedge CLOCK)
    if (active)
      if (WREN) begin
        words[ADDRESS] <= (words[ADDRESS] & ~mask) | (DATAIN & mask);
        DATAOUT <= ~DATAIN;
      end else
        DATAOUT <= words[ADDRESS];
endmodule
