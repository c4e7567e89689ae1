// Runs the calls of a file, one after the other, and writes back every operand of each.
// A call: uint32 {variant, down, groups x y z, lanes x y z, operands}, then each operand: uint32 {bytes, rank, sizes},
// and its bytes, FENCE of them before and behind what the kernel may touch.
static uint32_t number(FILE* from) {
    uint32_t value;
    if (fread(&value, 4, 1, from) != 1) {
        fprintf(stderr, "the file of calls ends early\n");
        exit(1);
    }
    return value;
}

int main(int, char** arguments) {
    FILE* calls = fopen(arguments[1], "rb");
    FILE* results = fopen(arguments[2], "wb");
    if (!calls || !results) {
        fprintf(stderr, "usage: lockstep CALLS RESULTS\n");
        return 1;
    }
    for (uint32_t left = number(calls); left > 0; left--) {
        uint32_t head[9];
        for (uint32_t& value : head) {
            value = number(calls);
        }
        std::vector<std::vector<char>> bytes(head[8]);
        Operands operands = {};
        for (size_t i = 0; i < bytes.size(); i++) {
            std::vector<char>& own = bytes[i];
            own.resize(number(calls));
            Operand& operand = operands.all[i];
            operand.data = own.data() + FENCE;
            uint32_t rank = number(calls);
            for (uint32_t axis = 0; axis < rank; axis++) {
                operand.shape.sizes[axis] = int(number(calls));
            }
            if (fread(own.data(), 1, own.size(), calls) != own.size()) {
                return 1;
            }
        }
        call(head[0], head + 2, head + 5, head[1] != 0, operands, bytes);
        for (std::vector<char>& own : bytes) {
            fwrite(own.data(), 1, own.size(), results);
        }
    }
    return fclose(results);
}
