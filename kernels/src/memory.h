// Working memory that grows and is kept.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace unitvec {

constexpr size_t kLineBytes = 64;  // a cache line, and a register of AVX-512

/// An array of numbers that starts at a cache line. Its contents are lost when it grows.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }

    void reserve(size_t count) {
        if (count <= count_) return;
        std::free(data_);
        data_ = nullptr, count_ = 0;
        const size_t bytes = (count * sizeof(T) + kLineBytes - 1) / kLineBytes * kLineBytes;
        data_ = static_cast<T*>(std::aligned_alloc(kLineBytes, bytes));
        if (!data_) throw std::bad_alloc();
        count_ = count;
    }
    T* get() const { return data_; }

  private:
    T* data_ = nullptr;
    size_t count_ = 0;
};

}  // namespace unitvec
