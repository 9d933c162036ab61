// What the linters of packages say of each tarball: nothing may be wrong, nothing suggested.
import { execSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

for (const file of readdirSync('tarballs')) {
  const publint = execSync(`npx publint run tarballs/${file} --strict`, { encoding: 'utf8' });
  if (!publint.includes('All good!')) throw new Error(publint);
  // The packages of platforms hold no types.
  if (/^tallymesh-\d/.test(file)) execSync(`npx attw tarballs/${file} --format ascii`, { stdio: 'inherit' });
}
