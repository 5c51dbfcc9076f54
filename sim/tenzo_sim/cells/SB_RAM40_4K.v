// SB_RAM40_4K: a block RAM of the Lattice iCE40, 4,096 bits behind a write and a read port (FPGA-TN-02002, memory usage
// guide).
//
// Modelled: all modes, 256 rows of 16 bits to 2048 words of 2, initial contents. Contents from a file are refused when it
// is built.
//
// What is read while it is written is not defined: here it comes out inverted, so that no design can depend on it. Nor is
// what comes out before the first read: here it is something else than zeros. Both ports have one clock.
module SB_RAM40_4K(
  output [15:0] RDATA,
  input RCLK, WCLK,
  input RCLKE = 1'b1, RE = 1'b0, WCLKE = 1'b1, WE = 1'b0,
  input [10:0] RADDR, WADDR,
  input [15:0] MASK = 16'b0,
  input [15:0] WDATA
);
  parameter WRITE_MODE = 0, READ_MODE = 0;
  parameter [255:0] INIT_0 = 0, INIT_1 = 0, INIT_2 = 0, INIT_3 = 0, INIT_4 = 0, INIT_5 = 0, INIT_6 = 0, INIT_7 = 0;
  parameter [255:0] INIT_8 = 0, INIT_9 = 0, INIT_A = 0, INIT_B = 0, INIT_C = 0, INIT_D = 0, INIT_E = 0, INIT_F = 0;
  parameter INIT_FILE = "";

  // A module that is not there: no option of a simulator makes that a warning.
  generate
    if (INIT_FILE != "")
      SB_RAM40_4K_has_no_model_of_INIT_FILE refused();
  endgenerate

  reg [15:0] rows [0:255];
  localparam [4095:0] INITIAL = {
    INIT_F, INIT_E, INIT_D, INIT_C, INIT_B, INIT_A, INIT_9, INIT_8,
    INIT_7, INIT_6, INIT_5, INIT_4, INIT_3, INIT_2, INIT_1, INIT_0
  };
  integer row;
  initial
    for (row = 0; row < 256; row = row + 1)
      rows[row] = INITIAL[16 * row +: 16];

  // So many words share a row, bit by bit; each group of their bits has one data pin.
  localparam WRITE_WORDS = 1 << WRITE_MODE, WRITE_PIN = (WRITE_WORDS - 1) / 2;
  localparam READ_WORDS = 1 << READ_MODE, READ_PIN = (READ_WORDS - 1) / 2;
  wire [15:0] given, changed;
  reg [15:0] latch = 16'd54321;
  genvar place;
  generate
    for (place = 0; place < 16; place = place + 1) begin : bits
      assign given[place] = WDATA[place / WRITE_WORDS * WRITE_WORDS + WRITE_PIN];
      assign changed[place] = WRITE_MODE == 0 ? ~MASK[place] : place % WRITE_WORDS == WADDR[10:8] % WRITE_WORDS;
      assign RDATA[place] = place % READ_WORDS == READ_PIN ? latch[place - READ_PIN] : 1'b0;
    end
  endgenerate

  wire write = WE & WCLKE;
  always @(posedge WCLK)
    if (write) rows[WADDR[7:0]] <= (rows[WADDR[7:0]] & ~changed) | (given & changed);
  wire [15:0] wrong = write && WADDR[7:0] == RADDR[7:0] ? changed : 16'b0;
  always @(posedge RCLK)
    if (RE & RCLKE) latch <= (rows[RADDR[7:0]] ^ wrong) >> (RADDR[10:8] % READ_WORDS);
endmodule
