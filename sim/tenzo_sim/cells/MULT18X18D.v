// MULT18X18D: a multiplier of 18 x 18 bits of the Lattice ECP5 (FPGA-TN-02205, sysDSP usage guide).
//
// Modelled: signed and unsigned factors; input, pipeline and output registers, each with its clock, enable and reset.
// Registers are zero at power-on. Everything else (shift chains, cascades, bypass) has no pin here or is refused when it
// is built; a factor from a shift chain is zero, as at the head of one.
module MULT18X18D(
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK3, CLK2, CLK1, CLK0,
  input CE3, CE2, CE1, CE0,
  input RST3, RST2, RST1, RST0,
  output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
  P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0,
  output SIGNEDP
);
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE", REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE", REG_PIPELINE_CE = "CE0", REG_PIPELINE_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0";
  parameter REG_INPUTC_CLK = "NONE", REG_INPUTC_CE = "CE0", REG_INPUTC_RST = "RST0";
  parameter CLK0_DIV = "ENABLED", CLK1_DIV = "ENABLED", CLK2_DIV = "ENABLED", CLK3_DIV = "ENABLED";
  parameter HIGHSPEED_CLK = "NONE", CAS_MATCH_REG = "FALSE", SOURCEB_MODE = "B_SHIFT";
  parameter MULT_BYPASS = "DISABLED", RESETMODE = "SYNC", GSR = "ENABLED";

  // A module that is not there: no option of a simulator makes that a warning.
  generate
    if (RESETMODE != "SYNC")
      MULT18X18D_has_no_model_of_this_RESETMODE refused();
    if (MULT_BYPASS != "DISABLED" || HIGHSPEED_CLK != "NONE")
      MULT18X18D_has_no_model_of_bypass_and_high_speed_clock refused();
    if (SOURCEB_MODE != "B_SHIFT" || REG_INPUTC_CLK != "NONE" || CAS_MATCH_REG != "FALSE")
      MULT18X18D_has_no_model_of_factor_C_and_cascades refused();
  endgenerate

  wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
  wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
  wire [18:0] factor_a, factor_b;
  wire [35:0] product, result;
  wire [3:0] clocks = {CLK3, CLK2, CLK1, CLK0}, enables = {CE3, CE2, CE1, CE0}, resets = {RST3, RST2, RST1, RST0};

  // A factor travels with its sign.
  MULT18X18D_STAGE #(.WIDTH(19), .CLOCK(REG_INPUTA_CLK), .ENABLE(REG_INPUTA_CE), .RESET(REG_INPUTA_RST)) input_a(
    clocks, enables, resets, SOURCEA ? 19'b0 : {SIGNEDA & a[17], a}, factor_a
  );
  MULT18X18D_STAGE #(.WIDTH(19), .CLOCK(REG_INPUTB_CLK), .ENABLE(REG_INPUTB_CE), .RESET(REG_INPUTB_RST)) input_b(
    clocks, enables, resets, SOURCEB ? 19'b0 : {SIGNEDB & b[17], b}, factor_b
  );
  wire [37:0] exact = $signed(factor_a) * $signed(factor_b);
  MULT18X18D_STAGE #(.WIDTH(36), .CLOCK(REG_PIPELINE_CLK), .ENABLE(REG_PIPELINE_CE), .RESET(REG_PIPELINE_RST)) pipeline(
    clocks, enables, resets, exact[35:0], product
  );
  MULT18X18D_STAGE #(.WIDTH(36), .CLOCK(REG_OUTPUT_CLK), .ENABLE(REG_OUTPUT_CE), .RESET(REG_OUTPUT_RST)) out(
    clocks, enables, resets, product, result
  );
  assign SIGNEDP = SIGNEDA | SIGNEDB;
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
  P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = result;
endmodule

// A register of MULT18X18D, or a wire: CLOCK is NONE or CLK0 to CLK3, ENABLE is CE0 to CE3, RESET is RST0 to RST3.
module MULT18X18D_STAGE #(parameter WIDTH = 1, CLOCK = "NONE", ENABLE = "CE0", RESET = "RST0")(
  input [3:0] clocks, enables, resets, input [WIDTH-1:0] given, output [WIDTH-1:0] kept
);
  localparam [1:0] CLOCK_NUMBER = CLOCK == "CLK1" ? 1 : CLOCK == "CLK2" ? 2 : CLOCK == "CLK3" ? 3 : 0;
  localparam [1:0] ENABLE_NUMBER = ENABLE == "CE1" ? 1 : ENABLE == "CE2" ? 2 : ENABLE == "CE3" ? 3 : 0;
  localparam [1:0] RESET_NUMBER = RESET == "RST1" ? 1 : RESET == "RST2" ? 2 : RESET == "RST3" ? 3 : 0;
  generate
    if (CLOCK == "NONE") assign kept = given;
    else begin
      reg [WIDTH-1:0] held = 0;
      wire clock = clocks[CLOCK_NUMBER];
      always @(posedge clock)
        if (resets[RESET_NUMBER]) held <= 0;
        else if (enables[ENABLE_NUMBER]) held <= given;
      assign kept = held;
    end
  endgenerate
endmodule
