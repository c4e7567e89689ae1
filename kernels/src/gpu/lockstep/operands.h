// What a variant is called with. BOTH: on a GPU, for its functions and for the host's.
struct Shape {
    int sizes[8];
    BOTH int operator[](int axis) const { return sizes[axis]; }
};

struct Operand {
    char* data;
    Shape shape;
};

struct Operands {
    Operand all[24];
    BOTH const Operand& operator[](int index) const { return all[index]; }
};
