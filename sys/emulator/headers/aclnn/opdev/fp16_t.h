/* A half-precision number for C++ programs on the host: sixteen bits that convert from and to what C++ calculates with. */
#ifndef ASCEND_EMULATOR_ACLNN_OPDEV_FP16_T_H
#define ASCEND_EMULATOR_ACLNN_OPDEV_FP16_T_H

#ifdef __cplusplus

#include <cstdint>
#include <cstring>

namespace op {

struct fp16_t {
    uint16_t val;

    fp16_t() : val(0) {}
    fp16_t(float number) : val(round(number)) {}
    fp16_t(double number) : val(round(static_cast<float>(number))) {}
    fp16_t(int8_t number) : fp16_t(static_cast<float>(number)) {}
    fp16_t(uint8_t number) : fp16_t(static_cast<float>(number)) {}
    fp16_t(int16_t number) : fp16_t(static_cast<float>(number)) {}
    fp16_t(uint16_t number) : fp16_t(static_cast<float>(number)) {}
    fp16_t(int32_t number) : fp16_t(static_cast<float>(number)) {}
    fp16_t(uint32_t number) : fp16_t(static_cast<float>(number)) {}
    fp16_t(int64_t number) : fp16_t(static_cast<float>(number)) {}
    fp16_t(uint64_t number) : fp16_t(static_cast<float>(number)) {}

    operator float() const { return widen(val); }

    fp16_t &operator+=(fp16_t other) { return *this = fp16_t(float(*this) + float(other)); }
    fp16_t &operator-=(fp16_t other) { return *this = fp16_t(float(*this) - float(other)); }
    fp16_t &operator*=(fp16_t other) { return *this = fp16_t(float(*this) * float(other)); }
    fp16_t &operator/=(fp16_t other) { return *this = fp16_t(float(*this) / float(other)); }

    /* To the nearest, ties to the even one. */
    static uint16_t round(float number) {
        uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
        if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
        if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
        if (magnitude < 0x33000000u) return static_cast<uint16_t>(sign);
        const uint32_t exponent = magnitude >> 23;
        const uint32_t shift = exponent >= 113 ? 13 : 126 - exponent;
        const uint32_t fraction = exponent >= 113 ? magnitude - (112u << 23) : ((magnitude & 0x7fffffu) | 0x800000u);
        const uint32_t rest = fraction & ((1u << shift) - 1), half = 1u << (shift - 1);
        uint32_t rounded = fraction >> shift;
        if (rest > half || (rest == half && (rounded & 1u))) ++rounded;
        return static_cast<uint16_t>(sign | rounded);
    }

    static float widen(uint16_t half) {
        const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
        uint32_t bits;
        float number;
        if (exponent == 0) {
            number = static_cast<float>(fraction) / 16777216.0f;
            std::memcpy(&bits, &number, sizeof bits);
            bits |= sign;
        } else {
            bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
        }
        std::memcpy(&number, &bits, sizeof number);
        return number;
    }
};

}  // namespace op

#endif

#endif  /* ASCEND_EMULATOR_ACLNN_OPDEV_FP16_T_H */
