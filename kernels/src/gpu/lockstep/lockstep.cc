static void call(uint32_t variant, const uint32_t* groups, const uint32_t* size, bool down, const Operands& operands,
                 std::vector<std::vector<char>>&) {
    lockstep::launch({groups[0], groups[1], groups[2]}, {size[0], size[1], size[2]}, down,
                     [&] { VARIANTS[variant](operands); });
}
