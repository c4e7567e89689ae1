static void check(cudaError_t status) {
    if (status != cudaSuccess) {
        fprintf(stderr, "%s\n", cudaGetErrorString(status));
        exit(1);
    }
}

// The GPU works on copies, fences included.
static void call(uint32_t variant, const uint32_t* groups, const uint32_t* size, bool, Operands operands,
                 std::vector<std::vector<char>>& bytes) {
    for (size_t i = 0; i < bytes.size(); i++) {
        char* copy;
        check(cudaMalloc(&copy, bytes[i].size()));
        check(cudaMemcpy(copy, bytes[i].data(), bytes[i].size(), cudaMemcpyHostToDevice));
        operands.all[i].data = copy + FENCE;
    }
    check(cudaFuncSetAttribute(VARIANTS[variant], cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED));
    VARIANTS[variant]<<<dim3(groups[0], groups[1], groups[2]), dim3(size[0], size[1], size[2]), SHARED>>>(operands);
    check(cudaGetLastError());
    check(cudaDeviceSynchronize());
    for (size_t i = 0; i < bytes.size(); i++) {
        char* copy = operands.all[i].data - FENCE;
        check(cudaMemcpy(bytes[i].data(), copy, bytes[i].size(), cudaMemcpyDeviceToHost));
        check(cudaFree(copy));
    }
}
