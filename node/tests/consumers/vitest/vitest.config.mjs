// One worker for all files, so that each loads the package again in the process of the last.
export default { test: { include: ['*.test.mjs'], maxWorkers: 1 } };
