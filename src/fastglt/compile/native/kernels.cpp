// Products with compressed sparse rows whose columns are all computed at once, in registers, and
// whose results get their shift and activation before they are written.
//
// Nothing is read past the end of a row: the last of several vectors begins early, so that it
// overlaps with the one before it, and what both hold is computed twice.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int kVectorBytes = 64;
constexpr int kMostVectors = 8;
constexpr int64_t kAhead = 16;  // rows that are fetched in advance; columns are padded so
constexpr int64_t kCacheBytes = 1 << 17;  // larger values may have left the caches of a core

struct BFloat16 {
  uint16_t bits;
};

template <typename T>
inline T widened(T value) {
  return value;
}

inline float widened(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

template <typename T>
inline void narrow(T value, T* out) {
  *out = value;
}

inline void narrow(float value, BFloat16* out) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const bool nan = value != value;
  bits += 0x7FFF + ((bits >> 16) & 1);  // to nearest, ties to even
  out->bits = nan ? 0x7FC0 : static_cast<uint16_t>(bits >> 16);
}

// Consecutive numbers, as the compiler sees them: one vector register, or several, or part of one.
template <typename T, int N>
struct Lanes {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <typename T>
struct Lanes<T, 1> {
  typedef T type;
};
template <typename T, int N>
using Vec = typename Lanes<T, N>::type;

template <int N>
inline void load(const float* from, Vec<float, N>* to) {
  std::memcpy(to, from, sizeof(*to));
}

template <int N>
inline void load(const double* from, Vec<double, N>* to) {
  std::memcpy(to, from, sizeof(*to));
}

template <int N>
inline void load(const BFloat16* from, Vec<float, N>* to) {
  if constexpr (N == 1) {
    *to = widened(*from);
  } else {
    Vec<uint16_t, N> half;
    std::memcpy(&half, from, sizeof(half));
    const Vec<uint32_t, N> bits = __builtin_convertvector(half, Vec<uint32_t, N>) << 16;
    std::memcpy(to, &bits, sizeof(bits));
  }
}

// sum[0..width) = sum over entries of value * (row of x that the entry names).
template <typename T, typename S>
using RowSum = void (*)(const int32_t* columns, const T* values, int64_t entries, const S* x,
                        int64_t stride, int64_t width, T* sum);

// The way for rows of `width` numbers, in COUNT vectors of N. FAR: x does not fit into a cache, so
// that rows are fetched in advance.
template <typename T, typename S, bool FAR, int N, int COUNT>
void sum_of_rows(const int32_t* columns, const T* values, int64_t entries, const S* x,
                 int64_t stride, int64_t width, T* sum) {
  // Sums of few vectors are kept in several parts, for one addition waits for the one before.
  constexpr int PARTS = N == 1 ? 1 : COUNT <= 2 ? 4 : COUNT <= 4 ? 2 : 1;
  const int64_t last = width - N;
  Vec<T, N> totals[PARTS][COUNT] = {};
  const auto add = [&](int64_t entry, Vec<T, N>* sums) {
    const S* row = x + stride * columns[entry];
    if constexpr (FAR) {
      const char* later = reinterpret_cast<const char*>(x + stride * columns[entry + kAhead]);
      for (int byte = 0; byte < static_cast<int>(COUNT * N * sizeof(S)); byte += 64)
        __builtin_prefetch(later + byte);
    }
#pragma GCC unroll 8
    for (int part = 0; part < COUNT; ++part) {
      Vec<T, N> numbers;
      load<N>(row + (part + 1 < COUNT ? part * N : last), &numbers);
      sums[part] += values[entry] * numbers;
    }
  };
  int64_t entry = 0;
  for (; entry + PARTS <= entries; entry += PARTS) {
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; ++part) add(entry + part, totals[part]);
  }
  for (; entry < entries; ++entry) add(entry, totals[0]);
#pragma GCC unroll 8
  for (int part = 0; part < COUNT; ++part) {
#pragma GCC unroll 4
    for (int other = 1; other < PARTS; ++other) totals[0][part] += totals[other][part];
    std::memcpy(sum + (part + 1 < COUNT ? part * N : last), &totals[0][part], sizeof(Vec<T, N>));
  }
}

template <typename T, typename S, bool FAR, int N>
RowSum<T, S> by_count(int64_t count) {
  switch (count) {
    case 1: return sum_of_rows<T, S, FAR, N, 1>;
    case 2: return sum_of_rows<T, S, FAR, N, 2>;
    case 3: return sum_of_rows<T, S, FAR, N, 3>;
    case 4: return sum_of_rows<T, S, FAR, N, 4>;
    case 5: return sum_of_rows<T, S, FAR, N, 5>;
    case 6: return sum_of_rows<T, S, FAR, N, 6>;
    case 7: return sum_of_rows<T, S, FAR, N, 7>;
    default: return sum_of_rows<T, S, FAR, N, 8>;
  }
}

template <typename T, typename S, bool FAR>
RowSum<T, S> row_sum(int64_t width);

template <typename T, typename S, bool FAR>
void sum_of_wide_rows(const int32_t* columns, const T* values, int64_t entries, const S* x,
                      int64_t stride, int64_t width, T* sum) {
  constexpr int64_t most = kMostVectors * kVectorBytes / sizeof(T);
  for (int64_t start = 0; start < width; start += most) {
    const int64_t part = width - start < most ? width - start : most;
    row_sum<T, S, FAR>(part)(columns, values, entries, x + start, stride, part, sum + start);
  }
}

// The widest vectors that fit, and as many as are needed.
template <typename T, typename S, bool FAR>
RowSum<T, S> row_sum(int64_t width) {
  constexpr int full = kVectorBytes / sizeof(T);
  if (width > kMostVectors * full) return sum_of_wide_rows<T, S, FAR>;
  if (width >= full) return by_count<T, S, FAR, full>((width + full - 1) / full);
  if (width >= full / 2) return by_count<T, S, FAR, full / 2>((2 * width + full - 1) / full);
  if (width >= 4) return by_count<T, S, FAR, 4>((width + 3) / 4);
  return by_count<T, S, FAR, 1>(width);
}

template <typename T, typename S>
RowSum<T, S> row_sum(int64_t width, int64_t bytes) {
  return bytes > kCacheBytes ? row_sum<T, S, true>(width) : row_sum<T, S, false>(width);
}

// What is done with sums before they are written: `shift` is added, and what is below 0 then is
// multiplied by `slope`.
template <typename T>
struct Ending {
  const T* shift;
  T slope;

  inline T operator()(T value, int64_t channel) const {
    if (shift) value += shift[channel];
    if (slope == 1) return value;
    return value < 0 ? (slope == 0 ? T(0) : slope * value) : value;
  }
};

template <typename T, typename S>
inline void write_row(const T* sum, int64_t width, const Ending<T>& ending, S* out) {
  if (ending.slope == 0 && ending.shift) {
    for (int64_t channel = 0; channel < width; ++channel) {
      const T value = sum[channel] + ending.shift[channel];
      narrow(value < 0 ? T(0) : value, out + channel);
    }
    return;
  }
  for (int64_t channel = 0; channel < width; ++channel)
    narrow(ending(sum[channel], channel), out + channel);
}

// out[0..COUNT * N) = hidden @ weight, for a weight [inputs, COUNT * N].
template <typename T>
using RowMap = void (*)(const T* hidden, int64_t inputs, const T* weight, T* out);

template <typename T, int N, int COUNT>
void map_of_row(const T* hidden, int64_t inputs, const T* weight, T* out) {
  constexpr int PARTS = COUNT == 1 ? 4 : COUNT == 2 ? 2 : 1;
  Vec<T, N> totals[PARTS][COUNT] = {};
  int64_t input = 0;
  for (; input + PARTS <= inputs; input += PARTS) {
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; ++part) {
#pragma GCC unroll 8
      for (int place = 0; place < COUNT; ++place) {
        Vec<T, N> row;
        load<N>(weight + ((input + part) * COUNT + place) * N, &row);
        totals[part][place] += hidden[input + part] * row;
      }
    }
  }
  for (; input < inputs; ++input) {
    for (int place = 0; place < COUNT; ++place) {
      Vec<T, N> row;
      load<N>(weight + (input * COUNT + place) * N, &row);
      totals[0][place] += hidden[input] * row;
    }
  }
#pragma GCC unroll 8
  for (int place = 0; place < COUNT; ++place) {
    for (int part = 1; part < PARTS; ++part) totals[0][place] += totals[part][place];
    std::memcpy(out + place * N, &totals[0][place], sizeof(Vec<T, N>));
  }
}

// The way for `stride` outputs: 4, 8, or up to four times 16.
template <typename T>
RowMap<T> row_map(int64_t stride) {
  constexpr int full = kVectorBytes / sizeof(T);
  switch (stride) {
    case 4: return map_of_row<T, 4, 1>;
    case 8: return map_of_row<T, 8, 1>;
    case 16: return map_of_row<T, full, 16 / full>;
    case 32: return map_of_row<T, full, 32 / full>;
    case 48: return map_of_row<T, full, 48 / full>;
    default: return map_of_row<T, full, 64 / full>;
  }
}

// A linear map of the channels of a row, `weight` [inputs, stride] with zeros after `width`.
template <typename T>
struct Narrow {
  const T* weight;
  int64_t width;
  int64_t stride;
  Ending<T> ending;
};

// out = ending(matrix @ x) for a matrix [rows, .] in compressed rows, `block` channels at a time, of
// which a cache may hold those of all rows where it does not hold x. With a map to few channels,
// that of each row is written instead.
template <typename T, typename S>
void product(int64_t rows, const int32_t* starts, const int32_t* columns, const T* values,
             const S* x, int64_t stride, int64_t width, int64_t bytes, int64_t block,
             const Ending<T>& ending, const Narrow<T>& next, S* out, int64_t out_stride,
             int64_t chunk, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> sum(width), hidden(next.weight ? width : 0), mapped(next.stride);
    const RowMap<T> map_row = row_map<T>(next.stride);
    for (int64_t first = 0; first < width; first += block) {
      const int64_t part = width - first < block ? width - first : block;
      const RowSum<T, S> sum_rows = row_sum<T, S>(part, bytes);
      const Ending<T> own{ending.shift ? ending.shift + first : nullptr, ending.slope};
#pragma omp for schedule(dynamic, chunk)
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t start = starts[row];
        sum_rows(columns + start, values + start, starts[row + 1] - start, x + first, stride, part,
                 sum.data());
        if (next.weight) {
          write_row(sum.data(), width, own, hidden.data());
          map_row(hidden.data(), width, next.weight, mapped.data());
          write_row(mapped.data(), next.width, next.ending, out + row * out_stride);
        } else {
          write_row(sum.data(), part, own, out + row * out_stride + first);
        }
      }
    }
  }
}

inline double exponential(double x) { return std::exp(x); }

// exp(x) for x <= 0 to about one unit in the last place, in operations that are done for vectors:
// 2^n * exp(r) with n the nearest whole number to x / ln 2, exp(r) by its series.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const float n = (x * 1.44269504f + magic) - magic;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return series * power;
}

// What attention goes by: the terms of sources and of targets, rows of `stride` numbers of which
// the first `heads` count.
template <typename T>
struct Scores {
  const T* by_source;
  const T* by_target;
  int64_t stride;
  int64_t heads;
  T slope;
};

// Scores [entries, heads] of the entries of a row, less the largest of their head. The number of
// heads is a multiple of N.
template <typename T, int N>
void scores_of(const int32_t* columns, int64_t entries, const Scores<T>& terms, const T* by_target,
               T* scores) {
  for (int64_t head = 0; head < terms.heads; head += N) {
    Vec<T, N> target, largest = Vec<T, N>{} - std::numeric_limits<T>::infinity();
    load<N>(by_target + head, &target);
    for (int64_t entry = 0; entry < entries; ++entry) {
      Vec<T, N> sum;
      load<N>(terms.by_source + columns[entry] * terms.stride + head, &sum);
      sum += target;
      sum = sum < 0 ? terms.slope * sum : sum;
      largest = sum > largest ? sum : largest;
      std::memcpy(scores + entry * terms.heads + head, &sum, sizeof(sum));
    }
    for (int64_t entry = 0; entry < entries; ++entry) {
      Vec<T, N> score;
      load<N>(scores + entry * terms.heads + head, &score);
      score -= largest;
      std::memcpy(scores + entry * terms.heads + head, &score, sizeof(score));
    }
  }
}

// 1 / sum over entries for each head; 0 without entries.
template <typename T, int N>
void factors_of(const T* shares, int64_t entries, int64_t heads, T* factors) {
  for (int64_t head = 0; head < heads; head += N) {
    Vec<T, N> total = {}, share;
    for (int64_t entry = 0; entry < entries; ++entry) {
      load<N>(shares + entry * heads + head, &share);
      total += share;
    }
    total = entries ? 1 / total : Vec<T, N>{};
    std::memcpy(factors + head, &total, sizeof(total));
  }
}

// The sums of all channels at once, where heads have too few channels for vectors of their own.
template <typename T, typename S>
void sum_narrow_heads(const int32_t* columns, const T* shares, int64_t entries, int64_t heads,
                      const int32_t* __restrict head_of, const S* x, int64_t stride, int64_t width,
                      T* __restrict sum) {
  for (int64_t channel = 0; channel < width; ++channel) sum[channel] = 0;
  for (int64_t entry = 0; entry < entries; ++entry) {
    const S* __restrict row = x + stride * columns[entry];
    const T* __restrict own = shares + entry * heads;
    for (int64_t channel = 0; channel < width; ++channel)
      sum[channel] += own[head_of[channel]] * widened(row[channel]);
  }
}

// Rows of x summed by attention, channel by channel by that of head head_of[channel]; heads are in
// order, and that of head h has the channels segments[h] to segments[h + 1]. Many rows at a time,
// so that there are long vectors of scores.
template <typename T, typename S, int N>
void attend(int64_t rows, const int32_t* starts, const int32_t* columns, const Scores<T>& terms,
            const int32_t* segments, const int32_t* head_of, const S* x, int64_t stride,
            int64_t bytes, const Ending<T>& ending, S* out, int64_t out_stride, int64_t chunk, int threads) {
  const int64_t heads = terms.heads, width = segments[heads];
  const bool narrow_heads = width < heads * static_cast<int64_t>(kVectorBytes / sizeof(T));
  std::vector<RowSum<T, S>> sum_rows;
  for (int64_t head = 0; head < heads; ++head)
    sum_rows.push_back(row_sum<T, S>(segments[head + 1] - segments[head], bytes));
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> sum(width), shares, by_head, per_head(heads);
#pragma omp for schedule(dynamic, 1)
    for (int64_t first = 0; first < rows; first += chunk) {
      const int64_t end = first + chunk < rows ? first + chunk : rows;
      const int64_t before = starts[first], count = (starts[end] - before) * heads;
      if (static_cast<int64_t>(shares.size()) < count) shares.resize(count);
      T* all = shares.data();
      for (int64_t row = first; row < end; ++row)
        scores_of<T, N>(columns + starts[row], starts[row + 1] - starts[row], terms,
                        terms.by_target + row * terms.stride,
                        all + (starts[row] - before) * heads);
      for (int64_t position = 0; position < count; ++position)
        all[position] = exponential(all[position]);
      for (int64_t row = first; row < end; ++row) {
        const int32_t* own = columns + starts[row];
        const int64_t entries = starts[row + 1] - starts[row];
        const T* its = all + (starts[row] - before) * heads;
        if (narrow_heads) {
          sum_narrow_heads(own, its, entries, heads, head_of, x, stride, width, sum.data());
        } else {
          if (static_cast<int64_t>(by_head.size()) < entries) by_head.resize(entries);
          for (int64_t head = 0; head < heads; ++head) {
            const int64_t from = segments[head], channels = segments[head + 1] - from;
            for (int64_t entry = 0; entry < entries; ++entry)
              by_head[entry] = its[entry * heads + head];
            if (channels)
              sum_rows[head](own, by_head.data(), entries, x + from, stride, channels, &sum[from]);
          }
        }
        factors_of<T, N>(its, entries, heads, per_head.data());
        for (int64_t channel = 0; channel < width; ++channel)
          sum[channel] *= per_head[head_of[channel]];
        write_row(sum.data(), width, ending, out + row * out_stride);
      }
    }
  }
}

// out = ending(x @ weight.T) for a weight [width, inputs] in compressed rows: a tile of nodes at a
// time, transposed, so that each weight is multiplied with a vector of nodes.
template <typename T, typename S>
void sparse_linear(int64_t nodes, int64_t inputs, int64_t width, const int32_t* starts,
                   const int32_t* columns, const T* values, const S* x, int64_t stride,
                   const T* shift, T slope, S* out, int64_t out_stride, int threads) {
  constexpr int N = kVectorBytes / sizeof(T), PARTS = 2, TILE = PARTS * N;
  const Ending<T> ending{shift, slope};
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> tile(inputs * TILE), sums(width * TILE);
#pragma omp for schedule(static)
    for (int64_t first = 0; first < nodes; first += TILE) {
      const int64_t count = nodes - first < TILE ? nodes - first : TILE;
      for (int64_t node = 0; node < count; ++node) {
        const S* row = x + (first + node) * stride;
        for (int64_t input = 0; input < inputs; ++input)
          tile[input * TILE + node] = widened(row[input]);
      }
      for (int64_t channel = 0; channel < width; ++channel) {
        Vec<T, N> totals[PARTS] = {};
        for (int32_t entry = starts[channel]; entry < starts[channel + 1]; ++entry) {
          const T* numbers = &tile[static_cast<int64_t>(columns[entry]) * TILE];
          for (int part = 0; part < PARTS; ++part) {
            Vec<T, N> read;
            load<N>(numbers + part * N, &read);
            totals[part] += values[entry] * read;
          }
        }
        std::memcpy(&sums[channel * TILE], totals, sizeof(totals));
      }
      for (int64_t node = 0; node < count; ++node)
        for (int64_t channel = 0; channel < width; ++channel)
          narrow(ending(sums[channel * TILE + node], channel),
                 out + (first + node) * out_stride + channel);
    }
  }
}

}  // namespace

#define FASTGLT_KERNELS(NAME, T, S)                                                                \
  void fastglt_product_##NAME(int64_t rows, const int32_t* starts, const int32_t* columns,         \
                              const T* values, const S* x, int64_t stride, int64_t width,          \
                              int64_t bytes, int64_t block, const T* shift, double slope,          \
                              const T* next, int64_t next_width, int64_t next_stride,              \
                              const T* next_shift, double next_slope, S* out, int64_t out_stride,  \
                              int64_t chunk, int threads) {                                        \
    product<T, S>(rows, starts, columns, values, x, stride, width, bytes, block,                   \
                  Ending<T>{shift, T(slope)},                                                      \
                  Narrow<T>{next, next_width, next_stride, {next_shift, T(next_slope)}}, out,      \
                  out_stride, chunk, threads);                                                     \
  }                                                                                                \
  void fastglt_attend_##NAME(int64_t rows, const int32_t* starts, const int32_t* columns,          \
                             const T* by_source, const T* by_target, int64_t score_stride,         \
                             int64_t heads, const int32_t* segments, const int32_t* head_of,       \
                             double attention_slope, const S* x, int64_t stride, int64_t bytes,    \
                             const T* shift, double slope, S* out, int64_t out_stride, int64_t chunk, int threads) {   \
    const Scores<T> terms{by_source, by_target, score_stride, heads, T(attention_slope)};          \
    const auto way = heads == 1   ? attend<T, S, 1>                                                \
                     : heads == 2 ? attend<T, S, 2>                                                \
                     : heads == 4 ? attend<T, S, 4>                                                \
                                  : attend<T, S, 8>;                                               \
    way(rows, starts, columns, terms, segments, head_of, x, stride, bytes,                         \
        Ending<T>{shift, T(slope)}, out, out_stride, chunk, threads);                                          \
  }                                                                                                \
  void fastglt_sparse_linear_##NAME(int64_t nodes, int64_t inputs, int64_t width,                  \
                                    const int32_t* starts, const int32_t* columns,                 \
                                    const T* values, const S* x, int64_t stride, const T* shift,   \
                                    double slope, S* out, int64_t out_stride, int threads) {                           \
    sparse_linear<T, S>(nodes, inputs, width, starts, columns, values, x, stride, shift, T(slope), \
                        out, out_stride, threads);                                                 \
  }

extern "C" {
FASTGLT_KERNELS(float32, float, float)
FASTGLT_KERNELS(float64, double, double)
FASTGLT_KERNELS(bfloat16, float, BFloat16)
}
